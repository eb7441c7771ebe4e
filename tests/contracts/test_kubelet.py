"""What the device plugin must be able to rely on: the fake kubelet's exam, and the real one's.

The real one is the device manager and the pod-resources server of Kubernetes, in a process of
their own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence

import pytest

from nodeagent.api.gpunode import Mode, PodRef
from nodeagent.deviceplugin import DevicePlugins, Places, checkpoint
from nodeagent.kubelet import Device, Holder, KubeletError, Offer
from tests.contracts.devicemanager import RealDeviceManager, built_for_tests
from tests.fakes.kubelet import FakeKubelet, NotAdmitted, Pod, temporary_places
from tests.unit.deviceplugin.node import SMALL, SOON, offer, pod, slot
from tests.waiting import until

VARIABLE = "PCI_RESOURCE_NVIDIA_COM_NVIDIA_H100XM-1-10C"


class Fake:
    """The fake kubelet."""

    def __init__(self, places: Places) -> None:
        self._kubelet = FakeKubelet(places)
        self.start, self.stop, self.admit = (
            self._kubelet.start,
            self._kubelet.stop,
            self._kubelet.admit,
        )
        self.active_pods = self._kubelet.active_pods

    async def allocatable(self) -> Mapping[str, int]:
        return self._kubelet.allocatable

    async def end(self, pod: Pod) -> None:
        self._kubelet.end(pod)


class Node:
    """A kubelet and the device plugins that it is examined with."""

    def __init__(self, kubelet: Fake | RealDeviceManager, places: Places) -> None:
        self.kubelet = kubelet
        self.places = places
        self.changes = 0
        self.plugins = self.new()
        self._task: asyncio.Task[None] | None = None

    def new(self) -> DevicePlugins:
        return DevicePlugins(Mode.VGPU_VFIO, pods=self._pods, places=self.places, timing=SOON)

    async def _pods(self) -> Collection[PodRef]:
        return self.kubelet.active_pods()

    def run(self) -> None:
        self._task = asyncio.create_task(self.plugins.run(self._changed))

    async def end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    @contextlib.asynccontextmanager
    async def another(self) -> AsyncIterator[DevicePlugins]:
        """Run a second device plugin beside the first."""
        plugins = self.new()
        task = asyncio.create_task(plugins.run(lambda: None))
        await asyncio.sleep(0)
        try:
            yield plugins
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def offer(self, *tied: int, waiting: Sequence[int] | None = None) -> None:
        """Offer seven slots, of which those *tied* have a device and those *waiting* are next."""
        await self.plugins.offer(offer(*tied, waiting=waiting))
        await until(self._advertised)

    async def given(self, pod: Pod) -> list[str]:
        """Admit *pod*, and return the devices that its containers get to see, one after another."""
        answers = await self.kubelet.admit(pod)
        containers = [each.name for each in (*pod.init, *pod.containers)]
        return [answer.envs[VARIABLE] for name in containers for answer in answers.get(name, ())]

    async def _advertised(self) -> bool:
        return (await self.kubelet.allocatable()).get(SMALL) == 7

    def _changed(self) -> None:
        self.changes += 1


@pytest.fixture
def places() -> Iterator[Places]:
    with temporary_places() as places:
        yield places


@pytest.fixture(params=["fake", "real"])
async def node(request: pytest.FixtureRequest, places: Places) -> AsyncIterator[Node]:
    kubelet = (
        Fake(places) if request.param == "fake" else RealDeviceManager(built_for_tests(), places)
    )
    node = Node(kubelet, places)
    await kubelet.start()
    node.run()
    try:
        yield node
    finally:
        await node.end()
        await kubelet.stop()


async def test_nothing_is_advertised_before_the_first_offer(node: Node) -> None:
    assert await node.plugins.claims() == {}
    assert await node.plugins.rivals() == {}
    assert await node.plugins.holders() == []
    assert await node.kubelet.allocatable() == {}


async def test_a_pod_gets_the_slot_that_is_preferred_and_claims_it(node: Node) -> None:
    await node.offer(4)

    assert await node.given(pod("a", 1)) == ["0000:41:00.4"]
    assert await node.plugins.claims() == {slot(4): "uid-a"}


async def test_a_pod_that_is_not_expected_is_refused_with_a_reason(node: Node) -> None:
    await node.offer()

    with pytest.raises(NotAdmitted, match="scheduler extender"):
        await node.kubelet.admit(pod("a", 1))
    assert await node.plugins.claims() == {}


async def test_containers_share_a_pods_slots_and_reuse_those_of_init_containers(node: Node) -> None:
    await node.offer(0, 3, 5)

    first, second, third, fourth = await node.given(pod("a", 1, 1, init=(3, 1)))

    assert first == "0000:41:00.0,0000:41:00.3,0000:41:00.5"
    assert second in first
    assert {third, fourth} < set(first.split(","))
    assert third != fourth
    assert await node.plugins.claims() == dict.fromkeys([slot(0), slot(3), slot(5)], "uid-a")


async def test_a_pod_that_has_ended_claims_nothing(node: Node) -> None:
    await node.offer(4)
    await node.kubelet.admit(pod("a", 1))
    await node.kubelet.end(pod("a", 1))

    assert await node.plugins.claims() == {}


async def test_the_checkpoint_tells_of_an_ended_pod_until_the_next_allocation(node: Node) -> None:
    await node.offer(4)
    await node.kubelet.admit(pod("a", 1))
    await node.kubelet.end(pod("a", 1))
    told = checkpoint.read(node.places.checkpoint)
    assert told is not None
    assert [each.pod_uid for each in told] == ["uid-a"]

    await node.offer(5)
    await node.kubelet.admit(pod("b", 1))
    told = checkpoint.read(node.places.checkpoint)
    assert told is not None
    assert [each.pod_uid for each in told] == ["uid-b"]


async def test_the_slot_of_an_ended_pod_is_not_given_to_whom_it_is_not_tied(node: Node) -> None:
    await node.offer(4)
    await node.kubelet.admit(pod("a", 1))
    await node.kubelet.end(pod("a", 1))
    await node.offer(4, waiting=())

    for n in range(12):  # the kubelet picks whichever slot it likes
        with pytest.raises(NotAdmitted):
            await node.kubelet.admit(pod(f"b{n}", 1))


async def test_after_a_restart_the_kubelet_is_told_anew_and_remembers(node: Node) -> None:
    await node.offer(4)
    await node.kubelet.admit(pod("a", 1))
    await node.kubelet.stop()
    with pytest.raises(KubeletError, match="is the kubelet up"):
        await node.plugins.claims()
    await node.kubelet.start()
    await until(node._advertised)

    assert await node.plugins.claims() == {slot(4): "uid-a"}
    await node.offer(4, 5, waiting=(5,))
    assert await node.given(pod("b", 1)) == ["0000:41:00.5"]


async def test_a_new_agent_takes_over_what_the_one_before_has_left(node: Node) -> None:
    await node.offer(4)
    await node.kubelet.admit(pod("a", 1))
    await node.end()
    node.plugins = node.new()
    node.run()

    assert await node.plugins.claims() == {slot(4): "uid-a"}
    await node.offer(4, 5, waiting=(5,))
    assert await node.given(pod("b", 1)) == ["0000:41:00.5"]
    assert await node.plugins.claims() == {slot(4): "uid-a", slot(5): "uid-b"}


async def test_another_plugin_of_a_resource_shows_and_so_do_its_devices(node: Node) -> None:
    device = "8a3b7a9e-9f4b-4c39-9c5b-000000000001"
    theirs = Device("", "GPU-0", 1, "0000:41:00.9")
    async with node.another() as stranger:
        await stranger.offer(Offer({SMALL: (device,)}, {SMALL: (device,)}, {device: theirs}))
        await until(lambda: _says_rival(node))
        await node.kubelet.admit(pod("a", 1))

        assert await node.plugins.claims() == {}
        assert await node.plugins.holders() == [
            Holder(SMALL, device, PodRef("default", "a", "uid-a"))
        ]


async def _says_rival(node: Node) -> bool:
    return "another device plugin" in (await node.plugins.rivals()).get(SMALL, "")


async def test_a_resource_that_is_offered_again_at_once_is_served(node: Node) -> None:
    for n in range(5):
        await node.plugins.offer(Offer())
        await node.offer(n)

        assert await node.given(pod(f"p{n}", 1)) == [f"0000:41:00.{n}"]


async def test_claims_change_when_a_pod_has_been_admitted(node: Node) -> None:
    await node.offer(4)
    await asyncio.sleep(0.1)
    before = node.changes
    await node.kubelet.admit(pod("a", 1))
    await until(lambda: node.changes > before)


async def test_an_endpoint_that_the_kubelet_has_lost_is_replaced(node: Node) -> None:
    """A second plugin of the resource, when it goes, takes the first one's place with it."""
    await node.offer(4)
    async with node.another() as stranger:
        await stranger.offer(offer(4))

    async def admitted() -> bool:
        try:
            return await node.given(pod("a", 1)) == ["0000:41:00.4"]
        except NotAdmitted:
            return False

    await until(admitted)
