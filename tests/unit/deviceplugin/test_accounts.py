"""Reading out of the kubelet's accounts who has what."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection

import pytest

from nodeagent.api.gpunode import Mode, PodRef
from nodeagent.deviceplugin import DevicePlugins, Places, Timing
from nodeagent.kubelet import KubeletError, Offer
from tests.unit.deviceplugin.node import (
    HALF,
    SMALL,
    SOON,
    Node,
    offer,
    pod,
    together,
)
from tests.waiting import until

STRANGERS = "8a3b7a9e-9f4b-4c39-9c5b-000000000001"


async def test_a_removed_checkpoint_is_not_an_empty_one(node: Node) -> None:
    await node.offer(offer(4))
    await node.kubelet.admit(pod("a", 1))
    node.places.checkpoint.unlink()

    for question in (node.plugins.claims, node.plugins.holders):
        with pytest.raises(KubeletError, match="default/a: end these pods"):
            await question()


async def test_a_checkpoint_that_cannot_be_read_is_told_and_makes_the_agent_look(
    node: Node,
) -> None:
    await node.offer(offer(4))
    await asyncio.sleep(5 * SOON.poll_seconds)
    before = node.changes
    node.places.checkpoint.write_text("{")
    await until(lambda: node.changes == before + 1)

    with pytest.raises(KubeletError, match="remove the file and restart the kubelet"):
        await node.plugins.claims()


async def test_if_the_api_server_does_not_tell_the_pods_claims_are_not_known(
    places: Places,
) -> None:
    async def pods() -> Collection[PodRef]:
        raise KubeletError("the pods are not known")

    node = Node(places)
    async with node.kubelet.serving():
        plugins = DevicePlugins(Mode.VGPU_VFIO, pods=pods, places=places)
        with pytest.raises(KubeletError, match="the pods are not known"):
            await plugins.claims()


async def test_a_kubelet_that_does_not_answer_is_not_waited_for_long(places: Places) -> None:
    """Its socket takes connections, as that of a stopped process does."""
    node = Node(places, timing=Timing(call_seconds=0.2))
    places.device_plugins.mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(places.pod_resources))
        server.listen()
        with pytest.raises(KubeletError, match=r"DEADLINE_EXCEEDED|UNAVAILABLE"):
            await node.plugins.claims()


async def test_what_another_plugin_serves_is_left_to_it_until_it_goes(node: Node) -> None:
    stranger = node.new()
    await stranger.offer(Offer({SMALL: (STRANGERS,)}))
    task = asyncio.create_task(stranger.run(lambda: None))
    await until(lambda: node.kubelet.allocatable == {SMALL: 1})
    await node.plugins.offer(together({SMALL: ((4,), (4,)), HALF: ((), ())}))
    await until(lambda: node.kubelet.allocatable == {SMALL: 1, HALF: 7})

    assert list(await node.plugins.rivals()) == [SMALL]
    task.cancel()
    await asyncio.wait([task])
    await until(lambda: node.kubelet.allocatable == {SMALL: 7, HALF: 7})
    assert await node.plugins.rivals() == {}
