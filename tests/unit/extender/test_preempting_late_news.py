"""What has changed by the last moment keeps pods from being evicted, and what was not, does not."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from extender.claims import claimant
from extender.cluster import ApiEvictor, KubernetesCluster, objects
from extender.service import Service
from extender.service.plans import Plans
from extender.service.ports import Feed, PodFacts
from extender.service.preempting import Preempting
from extender.service.service import new_assignment_id
from nodeagent.api import keys
from nodeagent.api.gpunode import Assignment, PodRef
from nodeagent.apiserver.memory import Call
from nodeagent.apiserver.protocol import GPU_NODES, PODS, PatchType
from tests.builders import VGPU, assignment
from tests.fakes.scheduling import Scheduler
from tests.fakes.world import QUICK, World, filter_args
from tests.unit.extender.test_preempting import (
    NODES,
    Audit,
    a_while,
    asks,
    claimed,
    full,
    running,
)
from tests.waiting import until

WHOLE = 0
AT_ONCE = msgspec.structs.replace(
    QUICK, preemption_patience_seconds=0.0, preemption_pause_seconds=600.0
)


@pytest.fixture
async def world() -> World:
    made = World()
    for name in NODES:
        await made.add_node(name)
    return made


async def test_nobody_is_evicted_for_a_pod_that_has_come_to_fit_elsewhere_meanwhile(
    world: World,
) -> None:
    """Its claim is written, and the last that is read before an eviction is the pod itself."""
    audit = Audit(world)
    async with running(world) as extender:
        await full(world, extender)
        whole, made = await world.pod("whole"), False

        async def make_room(call: Call) -> None:
            nonlocal made
            reads = (call.verb, call.kind, call.name, call.done) == ("get", PODS, "high", False)
            if reads and not made and await claimed(world):
                made = True
                assert whole is not None
                await world.delete_pod(whole)
                await until(lambda: extender.knowledge.views["node-2"].fullness == 0)
            await audit(call)

        world.api.disturbance = make_room
        high = await asks(world, "3-40C")
        scheduler = Scheduler(extender, NODES)
        assert scheduler.place(high) == ""
        await until(lambda: made)
        await a_while()
        assert audit.asked == 0
        await scheduler.until_bound(world, [high])

    assert audit.evicted == []
    assert await world.bound("high") == "node-2"


async def test_nobody_is_evicted_by_who_leads_no_more_whatever_was_read_meanwhile(
    world: World,
) -> None:
    """The victim itself is read for its Event; whoever leads by then goes on with the claim."""
    audit = Audit(world)
    async with running(world) as extender:
        await full(world, extender)
        tenure, ended = extender.knowledge.tenure, False

        async def end(call: Call) -> None:
            nonlocal ended
            reads = (call.verb, call.kind, call.name, call.done) == ("get", PODS, "low", False)
            if reads and not ended and await claimed(world):
                ended = True
                tenure.end()
            await audit(call)

        world.api.disturbance = end
        high = await asks(world, "3-40C")
        scheduler = Scheduler(extender, NODES)
        assert scheduler.place(high) == ""
        await until(lambda: ended)
        await a_while()
        assert audit.asked == 0
        assert await claimed(world) == [high["metadata"]["uid"]]
        tenure.hold(until=math.inf)
        await scheduler.until_bound(world, [high])

    assert audit.evicted == ["low"]


async def test_an_admission_that_came_to_nothing_keeps_nobody_from_preempting(
    world: World,
) -> None:
    """An order of moves was to make its place, on a node that takes nothing new by now."""
    raw = await asks(world, "7-80C", name="waits")
    waits = PodRef("default", "waits", raw["metadata"]["uid"])
    low = known(await asks(world, "7-80C", name="low", priority=0))
    claim = assignment(f"{keys.MOVE_PREFIX}order-to-0", WHOLE, 0, pod=None, owner=claimant(waits))
    stays = assignment("of-another", WHOLE, 0)
    there = msgspec.structs.replace(assignment("of-low", WHOLE, 0), pod=low.ref)
    cluster = KubernetesCluster(world.api)
    service = Service(cluster, AT_ONCE)
    knowledge = service.knowledge
    for feed in Feed:
        knowledge.feed_synced(feed)
    for name, entries in zip(NODES, ((stays, claim), (there,)), strict=True):
        await planned(world, name, *entries)
        knowledge.node(name, cordoned=name == "node-1")
        knowledge.gpu_node(await world.gpu_node(name))
        knowledge.lease(name, "1")
    knowledge.ripe_claims = frozenset({claim.id})
    knowledge.pod(msgspec.structs.replace(low, node="node-2", phase="Running"))
    knowledge.pod(known(raw))
    assert service.hooks.filter(filter_args(raw, *NODES)).node_names == ()
    preempting = Preempting(
        knowledge,
        Plans(knowledge, cluster),
        cluster,
        ApiEvictor(world.api),
        None,
        new_id=new_assignment_id,
        utc_now=lambda: datetime.now(UTC),
    )

    await preempting.step()

    left, claimed_anew = [(await world.gpu_node(name)).spec.assignments for name in NODES]
    assert [each.id for each in left] == ["of-another"]
    assert claimant(waits) in [each.owner for each in claimed_anew]


def known(pod: dict[str, Any]) -> PodFacts:
    return objects.pod(msgspec.json.encode(pod), devices_per_pod=AT_ONCE.devices_per_pod)


async def planned(world: World, node: str, *entries: Assignment) -> None:
    """Write a plan, which the agent answers for."""
    wanted = VGPU + "7-80C"
    plan = [msgspec.structs.replace(each, resource=wanted) for each in entries]
    change = {"spec": {"assignments": msgspec.to_builtins(plan)}}
    await world.api.patch(GPU_NODES, node, change, patch_type=PatchType.MERGE)
    await world.obey(node)
