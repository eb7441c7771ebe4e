"""Preemption within the policy's rules: what tenants do not share, and what they may have."""

from __future__ import annotations

import asyncio

import pytest

from extender.policy.file import parsed
from extender.service import Service
from tests.fakes.occupied import placed
from tests.fakes.scheduling import Scheduler
from tests.fakes.world import World
from tests.waiting import until

pytestmark = pytest.mark.virtual_time

RULES = """
apiVersion: tangram.dev/v1alpha1
kind: PlacementPolicy
tenants:
- {name: red, namespaces: {matchLabels: {team: red}}, dedicated: gpu, caps: {memorySlices: 4}}
- {name: gold, namespaces: {matchLabels: {team: gold}}, priority: 1000}
"""
SEVEN = tuple(f"vm-{at}" for at in range(7))
POLICY = parsed(RULES.encode(), "rules").in_force


@pytest.fixture
async def world() -> World:
    made = World()
    await made.add_node("node-1")
    for team in ("red", "gold"):
        await made.add_namespace(team, team=team)
    await made.add_namespace("default")
    return made


async def preempted(world: World, extender: Service, name: str, namespace: str) -> bool:
    """Have a refused pod tried for a while; tell whether it has got a place."""
    pod = await world.add_pod(name, "1-10C", namespace=namespace, priority=100)
    uid = str(pod["metadata"]["uid"])
    await until(lambda: extender.knowledge.tenancy.known(namespace))
    scheduler = Scheduler(extender, ["node-1"])
    for _ in range(60):
        if extender.knowledge.place_of(uid):
            return True
        scheduler.place(pod)
        await asyncio.sleep(0.01)
    return False


async def left(world: World, *names: str) -> list[str]:
    return [name for name in names if await world.pod(name) is not None]


async def test_whoever_does_not_share_a_gpu_gets_it_without_any_other(world: World) -> None:
    async with world.extender(policy=POLICY) as extender, world.obedient("node-1"):
        for name in SEVEN:
            await placed(world, extender, name, "1-10C")
        assert await preempted(world, extender, "dedicated", "red")

    assert await left(world, *SEVEN) == []  # six of them were not in the way


async def test_where_another_of_those_is_as_high_nobody_goes(world: World) -> None:
    async with world.extender(policy=POLICY) as extender, world.obedient("node-1"):
        for name in SEVEN[1:]:
            await placed(world, extender, name, "1-10C")
        await placed(world, extender, SEVEN[0], "1-10C", priority=100)
        assert not await preempted(world, extender, "dedicated", "red")

    assert await left(world, *SEVEN) == list(SEVEN)


async def test_a_tenants_priority_counts_on_both_sides(world: World) -> None:
    async with world.extender(policy=POLICY) as extender, world.obedient("node-1"):
        await placed(world, extender, "mine", "7-80C", priority=0)
        assert await preempted(world, extender, "gilded", "gold")
        assert not await preempted(world, extender, "plain", "red")

    assert await left(world, "mine") == []


async def test_nobody_goes_for_who_is_at_the_cap(world: World) -> None:
    async with world.extender(policy=POLICY) as extender, world.obedient("node-1"):
        for name in ("a", "b"):
            await placed(world, extender, name, "1-10C")
        big = await world.add_pod("big", "7-80C", namespace="red", priority=100)
        scheduler = Scheduler(extender, ["node-1"])
        for _ in range(30):
            assert scheduler.place(big) == ""
            await asyncio.sleep(0.01)

    assert await left(world, "a", "b") == ["a", "b"]
