"""preempt vets what the scheduler proposes, and names nobody whom the leader does not evict."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest

from extender import wire
from extender.claims import claimant
from extender.ledger import Ledger
from extender.service import Service
from extender.verbs.preempt import sufficient
from nodeagent.api import keys
from nodeagent.api.gpunode import Mode
from tests.builders import assignment, gpu_node, request, view
from tests.fakes.occupied import guarded, placed, placed_gang
from tests.fakes.scheduling import Scheduler
from tests.fakes.world import QUICK, World, filter_args
from tests.waiting import until

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


@pytest.mark.parametrize("nominates", [False, True])
async def test_nobody_is_named_whom_the_leader_does_not_evict(
    world: World, *, nominates: bool
) -> None:
    settings = msgspec.structs.replace(QUICK, preempts=False, nominates=nominates)
    async with world.extender(settings) as extender, world.obedient("node-1", "node-2"):
        await placed(world, extender, "low", "7-80C")
        await placed(world, extender, "guarded", "7-80C", node="node-2")
        await guarded(world, "db", "guarded", allows=0)
        asks = await world.add_pod("asks", "4-40C", priority=10)

        assert vetted(extender, asks, {"node-1": [], "node-2": []}) == {}


async def begun(world: World, extender: Service) -> tuple[dict[str, Any], str]:
    """Return a preemptor and its victim's UID, once that is evicted; it takes its time to end."""
    low = await placed(world, extender, "low", "4-40C", priority=1, grace=30)
    await placed(world, extender, "above", "7-80C", node="node-2", priority=100)
    high = await world.add_pod("high", "7-80C", priority=10)
    scheduler = Scheduler(extender, ["node-1", "node-2"])

    def leaves() -> bool:
        assert scheduler.place(high) == ""
        return extender.knowledge.pods[low].deleting

    await until(leaves)
    return high, low


async def test_while_a_place_is_cleared_the_scheduler_is_told_where_and_who_leaves(
    world: World,
) -> None:
    settings = msgspec.structs.replace(QUICK, nominates=True)
    async with world.extender(settings) as extender, world.obedient("node-1", "node-2"):
        high, low = await begun(world, extender)

        answer = extender.hooks.filter(filter_args(high, "node-1", "node-2"))
        assert list(answer.failed_nodes) == ["node-1"]
        assert list(answer.failed_and_unresolvable_nodes) == ["node-2"]
        assert answer.node_names == ()
        assert vetted(extender, high, {"node-1": [], "node-2": []}) == {"node-1": [low]}
        other = await world.add_pod("other", "7-80C", priority=10)
        assert extender.hooks.filter(filter_args(other, "node-1", "node-2")).failed_nodes == {}
        assert vetted(extender, other, {"node-1": []}) == {}


@pytest.mark.parametrize("nominates", [False, True])
async def test_as_soon_as_all_leave_the_scheduler_is_had_ask_again(
    world: World, *, nominates: bool
) -> None:
    """It asks again for no pod on whose nodes nothing that it looks at changes."""
    await world.add_pod("extender-0", namespace=keys.SYSTEM_NAMESPACE)
    settings = msgspec.structs.replace(QUICK, nominates=nominates)
    async with world.extender(settings) as extender, world.obedient("node-1", "node-2"):
        await begun(world, extender)
        for _ in range(20):
            await asyncio.sleep(0.01)
        woken = extender.wakes
        victim = next(f for f in extender.knowledge.pods.values() if f.ref.name == "low")
        extender.knowledge.pod(msgspec.structs.replace(victim, deleting=False))
        extender._preempting._vacating._shown.clear()  # type: ignore[union-attr]
        for _ in range(20):
            await asyncio.sleep(0.01)
        assert extender.wakes == woken
        extender.knowledge.pod(victim)
        for _ in range(20):
            await asyncio.sleep(0.01)

        assert extender.wakes == woken + nominates


async def test_a_scheduler_that_nominates_nobody_for_that_is_told_nothing(world: World) -> None:
    async with world.extender() as extender, world.obedient("node-1", "node-2"):
        high, _ = await begun(world, extender)

        answer = extender.hooks.filter(filter_args(high, "node-1", "node-2"))
        assert answer.failed_nodes == {}
        assert sorted(answer.failed_and_unresolvable_nodes) == ["node-1", "node-2"]
        assert vetted(extender, high, {"node-1": []}) == {}


async def test_a_node_is_dropped_where_the_scheduler_would_violate_budgets(world: World) -> None:
    async with world.extender() as extender, world.obedient("node-1", "node-2"):
        small = await placed(world, extender, "small", "1-10C")
        whole = await world.add_pod("whole", "7-80C", priority=10)
        victims = {"node-1": {"Pods": [{"UID": small}], "NumPDBViolations": 1}}
        body = {"Pod": whole, "NodeNameToVictims": None, "NodeNameToMetaVictims": victims}
        args = wire.decode(msgspec.json.encode(body), wire.PreemptionArgs)

        assert extender.hooks.preempt(args).node_name_to_meta_victims == {}
        assert vetted(extender, whole, {"node-1": [small]}) == {"node-1": [small]}


async def test_nobody_goes_for_one_of_a_gang_that_still_gathers(world: World) -> None:
    """What its victims leave it would not get: filter has it wait for the rest of the gang."""
    async with world.extender() as extender, world.obedient("node-1", "node-2"):
        small = await placed(world, extender, "small", "1-10C")
        said = {keys.GANG: "g", keys.GANG_SIZE: "2"}
        first = await world.add_pod("first", "7-80C", priority=10, annotations=said)

        assert vetted(extender, first, {"node-1": [small]}) == {}
        refused = extender.hooks.filter(filter_args(first, "node-1", "node-2"))
        assert refused.node_names == ()
        assert vetted(extender, first, {"node-1": [small]}) == {}


async def test_for_one_of_a_gang_that_has_its_places_others_go_from_its_own_node_alone(
    world: World,
) -> None:
    nodes = ["node-1", "node-2"]
    settings = msgspec.structs.replace(QUICK, plan_settle_seconds=0.001)
    async with world.extender(settings) as extender, world.obedient(*nodes):
        assigned = extender.knowledge.assigned
        said = {keys.GANG: "g", keys.GANG_SIZE: "2"}
        pods = [
            await world.add_pod(name, "1-10C", priority=10, annotations=said)
            for name in ("first", "second")
        ]
        await Scheduler(extender, nodes).once(pods)
        await until(lambda: all(pod["metadata"]["uid"] in assigned for pod in pods))

        proposal = {name: ["short-of-cpu"] for name in nodes}
        for pod in pods:
            place = assigned[pod["metadata"]["uid"]]
            assert vetted(extender, pod, proposal) == {place: ["short-of-cpu"]}
            elsewhere = {name: each for name, each in proposal.items() if name != place}
            assert vetted(extender, pod, elsewhere) == {}
        third = await world.add_pod("third", "1-10C", priority=10, annotations=said)
        assert vetted(extender, third, proposal) == {}


async def test_who_comes_after_its_gang_is_bound_is_vetted_like_any_pod(world: World) -> None:
    nodes = ["node-1", "node-2"]
    settings = msgspec.structs.replace(QUICK, plan_settle_seconds=0.001)
    async with world.extender(settings) as extender, world.obedient(*nodes):
        await placed_gang(world, extender, "g", {"first": "1-10C", "second": "1-10C"}, nodes)
        said = {keys.GANG: "g", keys.GANG_SIZE: "2"}
        third = await world.add_pod("third", "1-10C", priority=10, annotations=said)

        proposal = {name: ["short-of-cpu"] for name in nodes}
        assert vetted(extender, third, proposal) == proposal


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
