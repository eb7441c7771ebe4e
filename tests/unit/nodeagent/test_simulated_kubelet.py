from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import pytest

from nodeagent.api.geometry import Placement
from nodeagent.apiserver.memory import Call
from nodeagent.apiserver.protocol import NODES, PODS, PatchType, Unavailable
from nodeagent.kubelet import Device, KubeletError, Offer
from nodeagent.simulated.kubelet import SimulatedKubelet
from nodeagent.simulated.pods import decoder
from tests.unit.nodeagent.builders import ONE, SMALL
from tests.unit.nodeagent.station import NAME, SOON, Station


class Kubelet:
    """A kubelet of a station without an agent: the test makes the offers."""

    def __init__(self) -> None:
        self.station = Station()
        self.changes = 0
        self.now = self.new()

    def new(self) -> SimulatedKubelet:
        station = self.station
        return SimulatedKubelet(station.api, station.hardware, station.checkpoint, pace=SOON)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        self.now = self.new()
        task = asyncio.create_task(self.now.run(self._changed))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def offer(self, *tied: str, waiting: tuple[str, ...] | None = None) -> None:
        """Offer two slots, "0" and "1", of which some are tied to an instance of their number."""
        gpu = self.station.hardware.gpus[0]
        devices = {slot: Device(f"a{slot}", gpu.uuid, int(slot) + 1, slot) for slot in tied}
        expected = tied if waiting is None else waiting
        await self.now.offer(Offer({SMALL: ("0", "1")}, {SMALL: expected}, devices))

    def _changed(self) -> None:
        self.changes += 1


@pytest.fixture
async def kubelet() -> Kubelet:
    kubelet = Kubelet()
    await kubelet.station.api.create(NODES, {"metadata": {"name": NAME}})
    for start in range(2):
        kubelet.station.hardware.gpus[0].create(ONE, Placement(start, 1))
    return kubelet


async def test_a_pod_gets_the_slot_that_is_preferred(kubelet: Kubelet) -> None:
    async with kubelet.serving():
        await kubelet.offer("0", "1", waiting=("1",))
        await kubelet.station.bind("a", {SMALL: 1})
        await kubelet.station.until_pod("a", "Running")
        uid = (await kubelet.station.pod("a"))["metadata"]["uid"]

        assert await kubelet.now.claims() == {"1": uid}
        assert kubelet.station.hardware.gpus[0].clients == {2: {uid}}
        assert kubelet.changes == 1


async def test_pods_bound_before_the_first_offer_wait_for_it(kubelet: Kubelet) -> None:
    async with kubelet.serving():
        await kubelet.station.bind("a", {SMALL: 1})
        await kubelet.station.settle()
        await kubelet.offer("0")
        await kubelet.station.until_pod("a", "Running")


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_a_pod_whose_slots_are_not_all_tied_is_rejected(kubelet: Kubelet, count: int) -> None:
    async with kubelet.serving():
        await kubelet.offer("0", waiting=("0",) if count > 1 else ())
        station = kubelet.station
        station.checkpoint.admitted.clear()
        if count == 1:
            await kubelet.offer(waiting=())
        await station.bind("a", {SMALL: count})
        await station.until_pod("a", "Failed")

        assert (await station.pod("a"))["status"]["reason"] == "UnexpectedAdmissionError"
        assert await kubelet.now.claims() == {}
        assert not any(station.hardware.gpus[0].clients.values())


async def test_a_finished_pod_gives_its_slot_back(kubelet: Kubelet) -> None:
    async with kubelet.serving():
        await kubelet.offer("0")
        await kubelet.station.bind("a", {SMALL: 1})
        await kubelet.station.until_pod("a", "Running")
        await kubelet.station.api.patch(
            PODS,
            "a",
            {"status": {"phase": "Succeeded"}},
            patch_type=PatchType.MERGE,
            namespace="default",
            subresource="status",
        )
        await kubelet.station.settle()

        assert await kubelet.now.claims() == {}
        assert kubelet.changes == 2


async def test_a_pod_that_ends_meanwhile_is_not_set_running_by_a_write_that_comes_late(
    kubelet: Kubelet,
) -> None:
    station, ended = kubelet.station, list[Call]()

    async def end(call: Call) -> None:
        if (call.kind, call.subresource) == (PODS, "status") and not ended:
            ended.append(call)
            await station.api.patch(
                PODS,
                "a",
                {"status": {"phase": "Succeeded"}},
                patch_type=PatchType.MERGE,
                namespace="default",
                subresource="status",
            )

    async with kubelet.serving():
        await kubelet.offer("0")
        station.api.disturbance = end
        await station.bind("a", {SMALL: 1})
        await station.until_pod("a", "Succeeded")
        await station.settle()

        assert (await station.pod("a"))["status"]["phase"] == "Succeeded"
        assert await kubelet.now.claims() == {}


async def test_of_a_pod_that_went_while_it_was_admitted_no_slot_is_kept(kubelet: Kubelet) -> None:
    """It goes while another is synced before it; its own write is never answered."""
    station, went = kubelet.station, list[Call]()

    async def go(call: Call) -> None:
        if (call.kind, call.subresource, call.done) != (PODS, "status", False):
            return
        if call.name == "b":
            raise Unavailable(0, "connection reset")
        if not went:
            went.append(call)
            await station.api.delete(PODS, "b", namespace="default", grace_seconds=0)
            await station.settle()  # the watch tells of it

    async with kubelet.serving():
        await station.bind("a", {SMALL: 1})
        await station.bind("b", {SMALL: 1})
        await station.settle()
        station.api.disturbance = go
        await kubelet.offer("0", "1")
        await station.until_pod("a", "Running")
        await station.settle()
        uid = (await station.pod("a"))["metadata"]["uid"]

        assert went
        assert list((await kubelet.now.claims()).values()) == [uid]
        assert [users for users in station.hardware.gpus[0].clients.values() if users] == [{uid}]


async def test_claims_outlive_the_kubelet_and_so_do_running_pods(kubelet: Kubelet) -> None:
    async with kubelet.serving():
        await kubelet.offer("0")
        await kubelet.station.bind("a", {SMALL: 1})
        await kubelet.station.until_pod("a", "Running")
        before = await kubelet.now.claims()

    async with kubelet.serving():
        assert await kubelet.now.claims() == before
        await kubelet.offer("0", waiting=())
        await kubelet.station.settle()

        assert await kubelet.now.claims() == before
        assert (await kubelet.station.pod("a"))["status"]["phase"] == "Running"


async def test_a_pod_that_vanished_while_the_kubelet_was_away_is_ended(kubelet: Kubelet) -> None:
    async with kubelet.serving():
        await kubelet.offer("0")
        await kubelet.station.bind("a", {SMALL: 1})
        await kubelet.station.until_pod("a", "Running")
    await kubelet.station.api.delete(PODS, "a", namespace="default", grace_seconds=0)

    async with kubelet.serving():
        await kubelet.station.settle()

        assert await kubelet.now.claims() == {}


async def test_an_api_server_that_fails_once_is_asked_again(
    kubelet: Kubelet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeagent.simulated.kubelet.RETRY_SECONDS", 0.001)
    left = [2]

    async def fail(call: Call) -> None:
        if call.kind == PODS and call.subresource == "status" and left[0]:
            left[0] -= 1
            raise Unavailable(503, "not now")

    async with kubelet.serving():
        await kubelet.offer("0")
        kubelet.station.api.disturbance = fail
        await kubelet.station.bind("a", {SMALL: 1})
        await kubelet.station.until_pod("a", "Running")

        assert len(await kubelet.now.claims()) == 1


async def test_slots_are_written_to_the_node_only_when_they_change(kubelet: Kubelet) -> None:
    await kubelet.offer()
    before = await kubelet.station.api.get(NODES, NAME)
    await kubelet.offer("0")

    assert await kubelet.station.api.get(NODES, NAME) == before
    assert msgspec.json.decode(before)["status"]["allocatable"] == {SMALL: "2"}


async def test_a_resource_no_longer_offered_is_advertised_as_none(kubelet: Kubelet) -> None:
    await kubelet.offer()
    await kubelet.now.offer(Offer())

    node = msgspec.json.decode(await kubelet.station.api.get(NODES, NAME))
    assert node["status"]["allocatable"] == {SMALL: "0"}


async def test_without_its_node_a_kubelet_says_so() -> None:
    with pytest.raises(KubeletError):
        await Kubelet().offer()


def test_init_containers_hand_their_devices_on_and_sidecars_keep_theirs() -> None:
    def container(count: int, **fields: str) -> dict[str, object]:
        return {"resources": {"limits": {SMALL: str(count), "cpu": "500m"}}, **fields}

    pod = decoder.decode(
        msgspec.json.encode(
            {
                "metadata": {"name": "a", "namespace": "default", "uid": "u"},
                "spec": {
                    "initContainers": [container(1, restartPolicy="Always"), container(4)],
                    "containers": [container(1), container(1)],
                },
            }
        )
    )

    assert pod.devices == {SMALL: 5}
