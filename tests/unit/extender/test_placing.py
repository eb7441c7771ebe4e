"""Pods that come to one node at once: few writes of its plan, and an answer for each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec
import pytest

from extender.service import Service
from nodeagent.apiserver.memory import Call
from nodeagent.apiserver.protocol import GPU_NODES, ApiError, Invalid, Unavailable
from tests.fakes.world import QUICK, World, bind_args, filter_args
from tests.waiting import until

pytestmark = pytest.mark.virtual_time


class Plans:
    """Counts the writes of plans; the first waits until it may go on, some end in errors."""

    def __init__(self, world: World, *, ends: Mapping[int, ApiError] | None = None) -> None:
        self.writes = 0
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()
        self._ends = ends or {}
        world.api.disturbance = self

    async def __call__(self, call: Call) -> None:
        if (call.verb, call.kind, call.subresource) != ("patch", GPU_NODES, "") or call.done:
            return
        self.writes += 1
        if self.writes == 1:
            self.reached.set()
            await self.go_on.wait()
        if self.writes in self._ends:
            raise self._ends[self.writes]


@pytest.fixture
async def world() -> World:
    made = World()
    await made.add_node("node-1")
    return made


async def binds(
    world: World, extender: Service, *types: str
) -> tuple[list[asyncio.Task[str]], list[str]]:
    """Begin to bind a pod for each of the types, one after the other; return their names, too."""
    begun, names = [], []
    for index, wanted in enumerate(types):
        pod = await world.add_pod(f"vm-{index}", wanted)
        extender.hooks.filter(filter_args(pod, "node-1"))

        async def bind(args: object = bind_args(pod, "node-1")) -> str:
            return (await extender.binder.bind(args)).error  # type: ignore[arg-type]

        begun.append(asyncio.create_task(bind()))
        names.append(f"vm-{index}")
    return begun, names


async def test_pods_that_wait_for_a_write_are_written_together_by_the_next(world: World) -> None:
    async with world.extender() as extender, world.obedient("node-1"):
        plans = Plans(world)
        begun, names = await binds(world, extender, *["1-10C"] * 6)
        await plans.reached.wait()
        for _ in range(20):
            await asyncio.sleep(0)  # all of them wait for their turn by now
        plans.go_on.set()
        answers = await asyncio.gather(*begun)
        places = {
            (entry.gpu, entry.start) for entry in (await world.gpu_node("node-1")).spec.assignments
        }

    assert answers == [""] * 6
    assert [await world.bound(name) for name in names] == ["node-1"] * 6
    assert len(places) == 6
    assert plans.writes <= 2


async def test_one_for_whom_there_is_no_room_is_told_so_and_keeps_nobody(world: World) -> None:
    async with world.extender() as extender, world.obedient("node-1"):
        plans = Plans(world)
        begun, _ = await binds(world, extender, "4-40C", "7-80C", "3-40C")
        await plans.reached.wait()
        plans.go_on.set()
        answers = await asyncio.gather(*begun)

    assert (answers[0], answers[2]) == ("", "")
    assert "no free placement" in answers[1]
    assert not extender.knowledge.ledger.assumed


async def test_what_is_refused_of_several_is_written_for_each_alone(world: World) -> None:
    refusal = Invalid(422, "spec.assignments: what one of them wants cannot be")
    async with world.extender() as extender, world.obedient("node-1"):
        plans = Plans(world, ends={2: refusal})
        begun, _ = await binds(world, extender, "1-10C", "1-10C", "2-20C")
        await plans.reached.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        plans.go_on.set()
        answers = await asyncio.gather(*begun)

    assert answers == ["", "", ""]
    assert plans.writes > 2


async def test_a_bind_that_is_cut_off_while_it_writes_for_others_leaves_them_to_themselves(
    world: World,
) -> None:
    async with world.extender() as extender, world.obedient("node-1"):
        plans = Plans(world)
        begun, _ = await binds(world, extender, "1-10C", "1-10C", "1-10C")
        await plans.reached.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        begun[0].cancel()
        plans.go_on.set()
        answers = await asyncio.gather(*begun[1:])

    assert answers == ["", ""]
    assert not extender.knowledge.ledger.assumed


async def test_an_unknown_outcome_of_a_write_for_several_ends_with_a_place_for_each(
    world: World,
) -> None:
    async with world.extender() as extender, world.obedient("node-1"):
        plans = Plans(world, ends={1: Unavailable(503, "try again")})
        begun, names = await binds(world, extender, *["1-10C"] * 4)
        await plans.reached.wait()
        plans.go_on.set()
        answers = await asyncio.gather(*begun)
        entries = (await world.gpu_node("node-1")).spec.assignments

    assert answers == [""] * 4
    assert len(entries) == 4
    assert {await world.bound(name) for name in names} == {"node-1"}


async def test_pods_that_go_together_leave_the_plan_together(world: World) -> None:
    settings = msgspec.structs.replace(QUICK, restart_hold_seconds=0.0)
    async with world.extender(settings) as extender, world.obedient("node-1"):
        pods = [await world.add_pod(f"vm-{index}", "1-10C") for index in range(5)]
        for pod in pods:
            extender.hooks.filter(filter_args(pod, "node-1"))
            assert (await extender.binder.bind(bind_args(pod, "node-1"))).error == ""
        plans = Plans(world)
        for pod in pods:
            await world.delete_pod(pod)
        leaving = extender._reclaimer._plans._leaving

        def ids() -> set[str]:
            # The sweep may look at a pod besides who heard of its end: it leaves once all the same.
            return {id for each in leaving.get("node-1", ()) for id in each.ids}

        await until(lambda: len(ids()) == 5)
        plans.go_on.set()
        await world.plan_holds(0)
        await until(lambda: not leaving)

    assert plans.writes <= 2
