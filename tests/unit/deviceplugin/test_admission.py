"""What pods get from the device plugin, over gRPC."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Collection

import pytest

from nodeagent.api.gpunode import Mode, PodRef
from nodeagent.deviceplugin import DevicePlugins, Places
from nodeagent.deviceplugin.proto import deviceplugin_pb2 as v1beta1
from nodeagent.kubelet import Device, KubeletError, Offer
from tests.fakes.kubelet import NotAdmitted, Pod
from tests.unit.deviceplugin.node import (
    HALF,
    MIG,
    SMALL,
    SOON,
    Node,
    offer,
    pod,
    slot,
    together,
)
from tests.waiting import until

STRANGERS = "8a3b7a9e-9f4b-4c39-9c5b-000000000001"


async def test_slots_of_two_pods_are_never_mixed(node: Node) -> None:
    await node.offer(offer(1, 3))
    assert node.kubelet.devices(await admitted(node, pod("a", 2))) == {SMALL: {slot(1), slot(3)}}
    await node.offer(offer(1, 3, 0, 5, waiting=(0, 5)))
    assert node.kubelet.devices(await admitted(node, pod("b", 2))) == {SMALL: {slot(0), slot(5)}}


async def test_a_pod_that_asks_for_more_than_was_planned_is_refused(node: Node) -> None:
    await node.offer(offer(1, 3))

    with pytest.raises(NotAdmitted):
        await node.kubelet.admit(pod("a", 3))
    assert await node.plugins.claims() == {}


async def test_a_pod_rejected_after_its_devices_were_given_leaves_them_for_the_next(
    node: Node,
) -> None:
    await node.offer(offer(1))
    with pytest.raises(NotAdmitted, match="OutOfmemory"):
        await node.kubelet.admit(pod("a", 1), rejected=True)

    assert await node.plugins.claims() == {}
    await node.offer(offer(2))
    assert node.kubelet.devices(await admitted(node, pod("b", 1))) == {SMALL: {slot(2)}}


async def test_a_slot_on_its_way_to_a_pod_is_not_taken_for_free(node: Node) -> None:
    """The kubelet has its answer, and has not yet taken note of it anywhere."""
    node.kubelet.gate = asyncio.Event()
    await node.offer(offer(4))
    admission = asyncio.create_task(node.kubelet.admit(pod("a", 1)))
    await until(lambda: node.kubelet.waiting_at_gate)
    await node.plugins.offer(offer())
    claims = asyncio.create_task(node.plugins.claims())
    await asyncio.sleep(0.05)
    node.kubelet.gate.set()
    await admission

    assert await claims == {slot(4): "uid-a"}


async def test_a_slot_whose_pod_never_shows_is_free_after_a_while(node: Node) -> None:
    await node.offer(offer(4))
    request = v1beta1.AllocateRequest()
    request.container_requests.add(devices_ids=[slot(4)])
    await node.ask("Allocate", request, v1beta1.AllocateResponse)
    began = time.monotonic()

    assert await node.plugins.claims() == {}
    assert time.monotonic() - began >= SOON.settle_seconds * 0.9


async def test_claims_are_told_of_once_and_other_plugins_affairs_are_not(node: Node) -> None:
    await node.offer(offer(4))
    await asyncio.sleep(5 * SOON.poll_seconds)
    before = node.changes
    await node.kubelet.admit(pod("a", 1))
    await until(lambda: node.changes == before + 1)
    await node.plugins.offer(together({SMALL: ((4,), ()), HALF: ((), ())}))  # writes the checkpoint
    await asyncio.sleep(5 * SOON.poll_seconds)

    assert node.changes == before + 1


async def test_containers_get_cdi_devices_that_are_described_as_long_as_they_are_offered(
    places: Places,
) -> None:
    node = Node(places, mode=Mode.CONTAINER)
    async with node.kubelet.serving():
        node.run()
        await node.offer(offer(4, 5, resource=MIG))
        answers = await node.kubelet.admit(pod("a", 2, resource=MIG))
        names = [each.name for each in answers["c0"][0].cdi_devices]

        assert names == [f"tangram.dev/gpu-instance={slot(n, MIG)}" for n in (4, 5)]
        assert described(places) == {slot(4, MIG), slot(5, MIG)}
        await node.plugins.offer(offer(4, resource=MIG))
        assert described(places) == {slot(4, MIG)}
        await node.end()
        assert described(places) == {slot(4, MIG)}, "a container may start without the agent"
        node.plugins = node.new()
        node.run()
        await node.plugins.offer(offer(resource=MIG))
        assert described(places) == set()
        await node.end()


async def test_a_device_that_cannot_be_described_is_not_offered(places: Places) -> None:
    node = Node(places, mode=Mode.CONTAINER)
    places.cdi.write_text("not a directory")
    async with node.kubelet.serving():
        node.run()
        with pytest.raises(KubeletError, match="cannot be written"):
            await node.plugins.offer(offer(4, resource=MIG))
        await asyncio.sleep(5 * SOON.poll_seconds)

        assert node.kubelet.allocatable == {}
        await node.end()


def test_harvester_serves_its_devices_itself() -> None:
    async def pods() -> Collection[PodRef]:
        return ()

    with pytest.raises(ValueError, match="Harvester"):
        DevicePlugins(Mode.HARVESTER, pods=pods)


async def test_device_files_of_a_vm_may_be_made_read_and_written(node: Node) -> None:
    tied = Device("a", "GPU-0", 1, "0000:41:00.4", ("/dev/vfio/vfio", "/dev/vfio/12"))
    await node.offer(Offer({SMALL: (slot(4),)}, {SMALL: (slot(4),)}, {slot(4): tied}))
    (answer,) = (await node.kubelet.admit(pod("a", 1)))["c0"]

    assert [(each.host_path, each.container_path, each.permissions) for each in answer.devices] == [
        (path, path, "mrw") for path in tied.nodes
    ]


def described(places: Places) -> set[str]:
    files = list(places.cdi.glob("*.json"))
    return {each["name"] for file in files for each in json.loads(file.read_text())["devices"]}


async def admitted(node: Node, pod: Pod) -> Pod:
    await node.kubelet.admit(pod)
    return pod
