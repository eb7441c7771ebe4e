"""The extender is killed at each of its writes, and the next one goes on from there."""

from __future__ import annotations

import asyncio

import pytest

from extender.advice import Asked
from extender.moving import Outcome
from extender.service import Service
from nodeagent.apiserver.memory import Call
from tests.builders import gpu
from tests.fakes.machines import Machines
from tests.fakes.mortal import MortalApi
from tests.fakes.world import World
from tests.unit.extender.moving.orders import NODES, applied, held, kept, over, running
from tests.waiting import until

ADMIT = Asked(admit=(("default", "whole"),))
MOST_WRITES = 60


@pytest.mark.parametrize("dropped", [True, False], ids=["dropped", "unanswered"])
async def test_nothing_is_lost_wherever_it_is_killed(*, dropped: bool) -> None:
    """Each VM is evicted once at most; the order comes to its end, or was never given."""
    written: list[str] = []
    for writes in range(1, MOST_WRITES):
        written = await killed_at(writes, dropped=dropped)
        if len(written) < writes:
            break
    else:
        pytest.fail(f"there was no end of writes: {written}")
    assert {"create configmaps", "create pods eviction", "patch gpunodes"} <= {*written}


async def killed_at(writes: int, *, dropped: bool) -> list[str]:
    """Kill an extender at one of its writes after an order was asked of it; return all of them."""
    world = World()
    for name in NODES:
        await world.add_node(name, gpus=[gpu(uuid=f"GPU-of-{name}")])
    machines = Machines(world)
    async with running(world) as extender:
        await machines.place(extender, "small", "1-10C", "node-1")
        await machines.place(extender, "half", "4-40C", "node-2")
    await machines.add("whole", "7-80C")
    evicted: list[str] = []

    async def hear(call: Call) -> None:
        if call.subresource == "eviction" and call.done:
            evicted.append(call.name)

    world.api.disturbance = hear
    mortal = MortalApi(world.api, writes=writes, dropped=dropped)
    async with (
        running(world, api=mortal) as extender,
        machines.running(extender, NODES),
        asyncio.TaskGroup() as tasks,
    ):
        await until(lambda: extender.knowledge.pending.waiting or mortal.dead.is_set())
        giving = tasks.create_task(applied(extender, ADMIT))

        async def settled() -> bool:
            order = await kept(world)
            return mortal.dead.is_set() or (order is not None and order.over)

        await until(settled)
        giving.cancel()
    async with running(world) as extender, machines.running(extender, NODES):
        if await kept(world) is None:
            await applied_anew(extender)
        order = await over(world)

        async def admitted() -> bool:
            return (await machines.on("whole"))[0] == "node-1"

        await until(admitted)
    assert order.ending is Outcome.DONE
    assert (await machines.on("small"))[0] == "node-2"
    assert await held(world) == []
    assert set(evicted) <= {"small-1"}
    return mortal.written


async def applied_anew(extender: Service) -> None:
    """Give the order that was lost on its way."""
    await until(lambda: extender.knowledge.pending.waiting)
    await applied(extender, ADMIT)
