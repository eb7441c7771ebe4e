"""preempt vets what the scheduler proposes, and fills in victims where it proposes none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest

from extender import wire
from extender.claims import claimant
from extender.ledger import Ledger
from extender.service import Service
from extender.verbs.preempt import sufficient
from nodeagent.api.gpunode import Mode
from tests.builders import assignment, gpu_node, request, view
from tests.fakes.occupied import placed, placed_gang
from tests.fakes.world import QUICK, World

pytestmark = pytest.mark.virtual_time

Proposal = Mapping[str, Sequence[str]]


def vetted(extender: Service, pod: dict[str, Any], proposal: Proposal) -> dict[str, list[str]]:
    """Return the victims that preempt leaves, or names, by node."""
    victims = {
        node: {"Pods": [{"UID": uid} for uid in uids] or None, "NumPDBViolations": 0}
        for node, uids in proposal.items()
    }
    body = {"Pod": pod, "NodeNameToVictims": None, "NodeNameToMetaVictims": victims}
    answer = extender.hooks.preempt(wire.decode(msgspec.json.encode(body), wire.PreemptionArgs))
    return {
        node: sorted(each.uid for each in found.pods or ())
        for node, found in answer.node_name_to_meta_victims.items()
    }


@pytest.fixture
async def world() -> World:
    world = World()
    await world.add_node("node-1")
    await world.add_node("node-2")
    return world


async def test_a_node_is_dropped_where_the_victims_leave_no_placement(world: World) -> None:
    async with world.extender() as extender, world.obedient("node-1", "node-2"):
        small = await placed(world, extender, "small", "1-10C")
        large = await placed(world, extender, "large", "4-40C", node="node-2")
        other = await placed(world, extender, "other", "3-40C", node="node-2")
        whole = await world.add_pod("whole", "7-80C", priority=10)

        proposal = {"node-1": [small], "node-2": [large], "unknown": [other]}
        assert vetted(extender, whole, proposal) == {"node-1": [small]}
        proposal = {"node-2": [large, other]}
        assert vetted(extender, whole, proposal) == {"node-2": sorted([large, other])}


async def test_nobody_is_named_where_preemption_is_turned_off(world: World) -> None:
    off = msgspec.structs.replace(QUICK, preempts=False)
    async with world.extender(off) as extender, world.obedient("node-1", "node-2"):
        await placed(world, extender, "small", "1-10C")
        whole = await world.add_pod("whole", "7-80C", priority=10)

        assert vetted(extender, whole, {"node-1": []}) == {}


async def test_empty_lists_are_filled_with_the_cheapest_of_lower_priority(world: World) -> None:
    async with world.extender() as extender, world.obedient("node-1", "node-2"):
        low = await placed(world, extender, "low", "4-40C", priority=1)
        await placed(world, extender, "dear", "3-40C", priority=5)
        await placed(world, extender, "same", "7-80C", node="node-2", priority=10)
        asks = await world.add_pod("asks", "4-40C", priority=10)

        assert vetted(extender, asks, {"node-1": [], "node-2": []}) == {"node-1": [low]}


async def test_nobody_is_named_for_a_pod_that_preempts_nobody(world: World) -> None:
    async with world.extender() as extender, world.obedient("node-1"):
        await placed(world, extender, "low", "7-80C")
        never = await world.add_pod("never", "4-40C", priority=10, preemptionPolicy="Never")

        assert vetted(extender, never, {"node-1": []}) == {}


async def test_a_gang_is_named_whole_or_not_at_all(world: World) -> None:
    async with world.extender() as extender, world.obedient("node-1", "node-2"):
        nodes = ["node-1", "node-2"]
        await placed_gang(world, extender, "duo", {"a": "7-80C", "b": "7-80C"}, nodes)
        asks = await world.add_pod("asks", "7-80C", priority=10)

        # The other member is on another node, where kube-scheduler lets nobody be named.
        assert vetted(extender, asks, {"node-1": [], "node-2": []}) == {}


async def test_a_node_without_victims_is_never_returned(world: World) -> None:
    async with world.extender() as extender, world.obedient("node-1"):
        free = await world.add_pod("free", "1-10C", priority=10)
        stranger = await world.add_pod("stranger", priority=10)

        assert vetted(extender, free, {"node-1": []}) == {}
        assert vetted(extender, stranger, {"node-1": []}) == {}


def test_on_harvester_nobody_goes_in_vain_for_what_a_stopped_vm_keeps() -> None:
    """Without the victim's CPU there is a place for half a GPU, and none for a whole one."""
    plan = [assignment("a1", 5, 0, pod="victim")]
    node = view(gpu_node("node-1", plan=plan, mode=Mode.HARVESTER))
    victims = {"node-1": ["victim"]}

    assert sufficient({"node-1": node}, Ledger(), request("7-80C"), victims) == ()
    assert sufficient({"node-1": node}, Ledger(), request("3-40C"), victims) == ("node-1",)


def test_what_a_pod_waits_for_is_no_obstacle_to_it_and_one_to_others() -> None:
    """Tangram evicts for its GPU whom kube-scheduler would evict for its CPU."""
    asks, stranger = request("4-40C", pod="asks"), request("4-40C", pod="stranger")
    claim = assignment("c1", 5, 0, pod=None, owner=claimant(asks.pod))
    node = view(gpu_node("node-1", plan=[assignment("a1", 0, 0, pod="victim"), claim]))
    victims = {"node-1": ["victim"]}

    assert sufficient({"node-1": node}, Ledger(), asks, victims) == ("node-1",)
    assert sufficient({"node-1": node}, Ledger(), stranger, victims) == ()
