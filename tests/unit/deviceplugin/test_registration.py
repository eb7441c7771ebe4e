"""Staying registered, whatever becomes of the kubelet, its sockets and ours."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection, Mapping

import pytest

from nodeagent.deviceplugin import Places
from nodeagent.deviceplugin.proto import deviceplugin_pb2 as v1beta1
from nodeagent.kubelet import KubeletError, Offer
from tests.fakes.kubelet import Container, NotAdmitted, Pod
from tests.unit.deviceplugin.node import (
    HALF,
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


async def test_the_plugin_says_that_it_prefers_and_needs_no_call_before_a_start(node: Node) -> None:
    await node.offer(offer())

    options = await node.ask("GetDevicePluginOptions", v1beta1.Empty(), v1beta1.DevicePluginOptions)
    assert options.get_preferred_allocation_available
    assert not options.pre_start_required
    request = v1beta1.PreStartContainerRequest(devices_ids=[slot(0)])
    await node.ask("PreStartContainer", request, v1beta1.PreStartContainerResponse)


async def test_sixteen_resources_at_once_are_each_registered_once(node: Node) -> None:
    names = [f"nvidia.com/NVIDIA_H100XM-1-{n}C" for n in range(16)]
    await node.offer(together(dict.fromkeys(names, ((0,), (0,)))))

    assert sorted(node.kubelet.registrations) == sorted(names)
    answers = await node.kubelet.admit(Pod("a", (Container("c", dict.fromkeys(names, 1)),)))
    assert len(answers["c"]) == 16
    assert await node.plugins.claims() == {slot(0, name): "uid-a" for name in names}


async def test_slots_that_come_and_go_are_told_on_the_open_stream(node: Node) -> None:
    await node.offer(offer(count=7))
    await node.offer(offer(count=3))
    await node.offer(offer(count=9))

    assert node.kubelet.registrations == [SMALL]


async def test_a_resource_that_is_no_longer_offered_is_served_no_more(node: Node) -> None:
    await node.offer(together({SMALL: ((), ()), HALF: ((), ())}))
    await node.plugins.offer(offer())
    await until(lambda: node.kubelet.allocatable == {SMALL: 7, HALF: 0})
    await node.offer(together({SMALL: ((), ()), HALF: ((), ())}))

    assert node.kubelet.registrations.count(HALF) == 2
    assert len(node.sockets) == 2


async def test_a_busy_kubelet_does_not_take_a_new_endpoint_for_the_one_that_has_ended(
    node: Node,
) -> None:
    node.kubelet.notices_seconds = SOON.quiet_seconds / 2
    await node.offer(offer())
    await node.plugins.offer(Offer())
    await node.plugins.offer(offer())
    await asyncio.sleep(2 * SOON.quiet_seconds)

    assert node.kubelet.allocatable == {SMALL: 7}
    assert node.kubelet.registrations == [SMALL, SMALL]


async def test_an_audit_that_was_overtaken_leaves_the_endpoint_that_has_come_since(
    node: Node,
) -> None:
    await node.offer(offer())
    accounts = node.plugins._accounts
    ask = accounts.devices
    asked, answer, asked_again = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def between_two_endpoints() -> Mapping[str, Collection[str]]:
        asked.set()
        await answer.wait()
        return {}

    async def once_more() -> Mapping[str, Collection[str]]:
        asked_again.set()
        return await ask()

    async with asyncio.timeout(10):
        accounts.devices = between_two_endpoints  # type: ignore[method-assign]
        await asked.wait()
        accounts.devices = ask  # type: ignore[method-assign]
        await node.plugins.offer(Offer())
        await node.offer(offer(4))
        accounts.devices = once_more  # type: ignore[method-assign]
        there = node.sockets
        answer.set()
        await asked_again.wait()

    assert node.sockets == there
    assert node.kubelet.registrations == [SMALL, SMALL]


async def test_an_offer_made_anew_ends_the_one_before(node: Node) -> None:
    await node.offer(offer(4))
    await node.plugins.offer(offer())

    with pytest.raises(NotAdmitted, match="no pod is expected"):
        await node.kubelet.admit(pod("a", 1))


async def test_when_the_agent_ends_its_sockets_go_and_the_node_shows_none(node: Node) -> None:
    await node.offer(together({SMALL: ((), ()), HALF: ((), ())}))
    await node.end()
    await until(lambda: node.kubelet.allocatable == {SMALL: 0, HALF: 0})

    assert node.sockets == []


async def test_after_its_end_the_plugin_serves_no_offer(node: Node) -> None:
    await node.end()

    with pytest.raises(KubeletError, match="has ended"):
        await node.plugins.offer(offer())
    assert node.sockets == []


async def test_sockets_of_a_killed_agent_are_cleared_away(node: Node) -> None:
    left = node.places.device_plugins / "tangram-left.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(left))
    await node.offer(offer())

    assert not left.exists()


async def test_after_each_restart_of_the_kubelet_everything_is_registered_again(node: Node) -> None:
    await node.offer(together({SMALL: ((4,), (4,)), HALF: ((), ())}))
    await node.kubelet.admit(pod("a", 1))
    for _ in range(3):
        await node.kubelet.restart()
        await until(lambda: node.kubelet.allocatable == {SMALL: 7, HALF: 7})

        assert await node.plugins.claims() == {slot(4): "uid-a"}
        assert len(node.sockets) == 2


async def test_a_kubelet_that_leaves_our_sockets_is_registered_with_as_soon(places: Places) -> None:
    node = Node(places, wipes=False)
    async with node.kubelet.serving():
        node.run()
        await node.offer(offer())
        await node.kubelet.restart()
        await until(lambda: node.kubelet.allocatable == {SMALL: 7}, within=SOON.call_seconds / 2)
        await node.end()


async def test_a_socket_that_somebody_has_removed_is_made_anew(node: Node) -> None:
    await node.offer(offer(4))
    (path,) = node.sockets
    (node.places.device_plugins / path).unlink()
    await until(lambda: node.kubelet.registrations == [SMALL, SMALL])
    await until(lambda: node.kubelet.allocatable == {SMALL: 7})

    assert await node.kubelet.admit(pod("a", 1))


async def test_an_offer_to_a_kubelet_that_is_down_fails_and_is_served_once_it_is_up(
    node: Node,
) -> None:
    await node.kubelet.stop()
    with pytest.raises(KubeletError, match=r"there is no .*kubelet\.sock"):
        await node.plugins.offer(offer(4))
    await node.kubelet.start()
    await until(lambda: node.kubelet.allocatable == {SMALL: 7})

    assert await node.kubelet.admit(pod("a", 1))


async def test_a_resource_the_kubelet_will_not_have_is_told_and_others_are_served(
    node: Node,
) -> None:
    hostile = "requests.nvidia.com/../../x"
    with pytest.raises(KubeletError, match="invalid resource name"):
        await node.plugins.offer(together({hostile: ((), ()), SMALL: ((4,), (4,))}))

    await until(lambda: node.kubelet.allocatable == {SMALL: 7})
    assert await node.kubelet.admit(pod("a", 1))


async def test_an_offer_given_up_at_any_moment_may_be_made_again(node: Node) -> None:
    for step in range(40):
        task = asyncio.create_task(
            node.plugins.offer(together({SMALL: ((4,), (4,)), HALF: ((), ())}))
        )
        for _ in range(step):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await node.plugins.offer(Offer())
    await node.offer(offer(4))

    assert await node.kubelet.admit(pod("a", 1))
    assert len(node.sockets) == 1
