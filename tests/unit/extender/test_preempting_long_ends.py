"""Victims that take long to end: they are waited for, and nobody else goes meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from extender.service import Service
from nodeagent.api import keys
from nodeagent.apiserver.protocol import EVENTS, LEASES, PODS, PatchType
from tests.fakes.ahead import Ahead
from tests.fakes.occupied import placed
from tests.fakes.scheduling import Scheduler
from tests.fakes.world import QUICK, World
from tests.unit.extender.test_preempting import NODES, Audit, asks, claimed, events, running
from tests.waiting import until

pytestmark = pytest.mark.virtual_time

TWO_HOURS = 7200
SHORT = msgspec.structs.replace(QUICK, claim_seconds=0.5, eviction_patience_seconds=0.2)
"""A claim's time is over long before such a victim has ended."""


@pytest.fixture
async def world() -> World:
    made = World()
    for name in NODES:
        await made.add_node(name)
    return made


async def full(world: World, extender: Service) -> None:
    """Fill both nodes; the cheapest to evict, on the first, takes two hours to end."""
    await placed(world, extender, "low", "3-40C", priority=1, grace=TWO_HOURS)
    await placed(world, extender, "other", "4-40C", priority=5)
    await placed(world, extender, "whole", "7-80C", node="node-2", priority=5)


async def ends(world: World, name: str) -> None:
    """Have a pod's kubelet end it at last."""
    await world.api.delete(PODS, name, namespace="default", grace_seconds=0)


async def waits(extender: Service, pod: dict[str, Any], seconds: float) -> None:
    """Have kube-scheduler try a pod that is refused, for so long."""
    scheduler, clock = Scheduler(extender, NODES), asyncio.get_running_loop().time
    over = clock() + seconds
    while clock() < over:
        assert scheduler.place(pod) == ""
        await asyncio.sleep(0.01)


async def shows_life(world: World, node: str) -> None:
    """Have a node's agent renew its lease."""
    change = {"spec": {"renewTime": "2026-01-01T00:00:00.000000Z"}}
    await world.api.patch(
        LEASES,
        keys.lease_name(node),
        change,
        patch_type=PatchType.MERGE,
        namespace=keys.SYSTEM_NAMESPACE,
    )


async def said(world: World) -> list[str]:
    """Return what preemptors were told, in the order it was written."""
    found = [msgspec.json.decode(each) for each in (await world.api.list(EVENTS)).items]
    found = [each for each in found if each["reason"] == "VgpuPreempting"]
    found.sort(key=lambda each: int(each["metadata"]["resourceVersion"]))
    return [each["message"] for each in found]


async def test_who_takes_longer_to_end_than_a_claim_lasts_is_waited_for(world: World) -> None:
    audit = Audit(world)
    async with running(world, SHORT) as extender:
        await full(world, extender)
        high = await asks(world, "3-40C")
        await waits(extender, high, 6 * SHORT.claim_seconds)
        assert audit.evicted == ["low"]
        assert await claimed(world) == [high["metadata"]["uid"]]
        await ends(world, "low")
        await Scheduler(extender, NODES).until_bound(world, [high])
        told = extender.knowledge.work.registry.get_sample_value

        assert told("tangram_preemptions_total", {"outcome": "given-up"}) == 0
    assert audit.evicted == ["low"]
    assert await world.bound("high") == "node-1"


async def test_two_that_end_one_long_after_the_other_are_both_waited_for(world: World) -> None:
    audit = Audit(world)
    async with running(world, SHORT) as extender:
        for name in ("a", "b"):
            await placed(world, extender, name, "3-40C", priority=1, grace=TWO_HOURS)
        await placed(world, extender, "whole", "7-80C", node="node-2", priority=5)
        high = await asks(world, "7-80C")
        for name in ("a", "b"):
            await waits(extender, high, 2 * SHORT.claim_seconds)
            await ends(world, name)
        await Scheduler(extender, NODES).until_bound(world, [high])

    assert sorted(audit.evicted) == ["a", "b"]
    assert await world.bound("high") == "node-1"


async def test_who_takes_long_to_end_is_waited_for_by_a_successor_too(world: World) -> None:
    audit = Audit(world)
    async with running(world, SHORT) as extender:
        await full(world, extender)
        high = await asks(world, "3-40C")
        await waits(extender, high, 2 * SHORT.claim_seconds)
    async with running(world, SHORT) as extender:
        await waits(extender, high, 2 * SHORT.claim_seconds)
        await ends(world, "low")
        await Scheduler(extender, NODES).until_bound(world, [high])

    assert audit.evicted == ["low"]
    assert await world.bound("high") == "node-1"


async def test_where_the_agent_is_silent_nobody_is_waited_for_longer_than_a_claim_lasts(
    world: World,
) -> None:
    """The node may be gone, and its pods end never."""
    audit, clock = Audit(world), Ahead()
    async with running(world, SHORT, clock=clock) as extender:
        await full(world, extender)
        high = await asks(world, "3-40C")
        await waits(extender, high, 2 * SHORT.claim_seconds)
        assert audit.evicted == ["low"]
        clock.by = QUICK.lease_missed_seconds + 1
        await shows_life(world, "node-2")
        await Scheduler(extender, NODES).until_bound(world, [high])

    assert audit.evicted == ["low", "whole"]
    assert await world.bound("high") == "node-2"


async def test_nobody_is_waited_for_beyond_its_grace_and_what_a_claim_lasts(world: World) -> None:
    """Its volume may be stuck, or its kubelet dead while the node's agent lives."""
    audit = Audit(world)
    async with running(world, SHORT) as extender:
        await placed(world, extender, "low", "3-40C", priority=1, grace=3)
        await placed(world, extender, "other", "4-40C", priority=5)
        await placed(world, extender, "whole", "7-80C", node="node-2", priority=5)
        high = await asks(world, "3-40C")
        await waits(extender, high, 3.0)
        assert audit.evicted == ["low"]
        await Scheduler(extender, NODES).until_bound(world, [high])
        low = await world.pod("low")

    assert low is not None
    assert low["metadata"]["deletionGracePeriodSeconds"] == 3
    assert audit.evicted == ["low", "whole"]
    assert await world.bound("high") == "node-2"


async def test_who_was_waited_for_in_vain_has_no_grace_again_with_the_next(world: World) -> None:
    async with running(world, SHORT) as extender:
        await placed(world, extender, "low", "3-40C", priority=1, grace=3)
        await placed(world, extender, "other", "4-40C", priority=150)
        await placed(world, extender, "top", "7-80C", node="node-2", priority=1000)
        scheduler, claims = Scheduler(extender, NODES), extender.knowledge.holds
        first = await asks(world, "3-40C")
        await until(lambda: scheduler.place(first) or claims.claimed)
        await until(lambda: scheduler.place(first) or not claims.claimed)
        second = await asks(world, "7-80C", name="second", priority=200)
        await until(lambda: scheduler.place(second) or claims.claimed)
        assert await claimed(world) == [second["metadata"]["uid"]]
        await waits(extender, second, 2 * SHORT.claim_seconds)

        assert await claimed(world) == []


async def test_after_a_while_the_pod_is_told_whom_it_waits_for(world: World) -> None:
    async with running(world, SHORT) as extender:
        await full(world, extender)
        high = await asks(world, "3-40C")
        await waits(extender, high, SHORT.eviction_patience_seconds / 2)
        assert "to be evicted" in (await events(world, "VgpuPreempting"))["high"]
        assert len(await said(world)) == 1
        await waits(extender, high, SHORT.eviction_patience_seconds)
        told = await said(world)

    assert told[1:] == [
        "vGPU: waits until a pod on node-1 has ended (low); nobody else is evicted meanwhile"
    ]


async def test_of_another_namespaces_pods_it_is_told_how_many_they_are(world: World) -> None:
    async with running(world, SHORT) as extender:
        for name in ("a", "b"):
            await placed(world, extender, name, "3-40C", priority=1, grace=TWO_HOURS)
        await placed(world, extender, "whole", "7-80C", node="node-2", priority=5)
        high = await asks(world, "7-80C", namespace="secret")
        await waits(extender, high, 2 * SHORT.claim_seconds)

    assert (await said(world))[1:] == [
        "vGPU: waits until 2 pods on node-1 have ended; nobody else is evicted meanwhile"
    ]


async def test_who_waits_for_long_keeps_no_other_from_preempting(world: World) -> None:
    audit = Audit(world)
    one = msgspec.structs.replace(SHORT, preemptions_at_once=1)
    async with running(world, one) as extender:
        await full(world, extender)
        first = await asks(world, "3-40C")
        scheduler = Scheduler(extender, NODES)
        await until(lambda: scheduler.place(first) or audit.evicted)
        second = await asks(world, "7-80C", name="second")
        await waits(extender, second, one.claim_seconds / 2)
        assert audit.evicted == ["low"]
        await scheduler.until_bound(world, [second])

    assert audit.evicted == ["low", "whole"]
    assert await claimed(world) == [first["metadata"]["uid"]]
