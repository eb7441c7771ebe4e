"""The extender is killed at each of its writes, and the next one goes on from there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from extender.advice import Asked
from extender.moving import Kind, Outcome
from extender.service import Service
from nodeagent.api import keys
from nodeagent.apiserver.memory import Call
from nodeagent.apiserver.protocol import (
    CONFIG_MAPS,
    MIGRATIONS,
    VIRTUAL_MACHINE_INSTANCES,
    Throttled,
)
from tests.builders import gpu
from tests.fakes.instances import KubeVirt, instance, runs_as
from tests.fakes.kubelets import Kubelets
from tests.fakes.machines import Machines
from tests.fakes.mortal import MortalApi
from tests.fakes.world import World
from tests.unit.extender.moving.orders import (
    NODES,
    PATIENT,
    TICK,
    applied,
    held,
    kept,
    over,
    running,
)
from tests.waiting import until

pytestmark = pytest.mark.virtual_time

ADMIT = Asked(admit=(("default", "whole"),))
MOST_WRITES = 60


@pytest.mark.parametrize("dropped", [True, False], ids=["dropped", "unanswered"])
async def test_nothing_is_lost_wherever_it_is_killed(*, dropped: bool) -> None:
    """The VM is evicted once; the order comes to its end, or was never given and is given anew."""
    written = await killed_everywhere(dropped=dropped)

    assert {"create configmaps", "create pods eviction", "patch gpunodes"} <= {*written}


@pytest.mark.parametrize("dropped", [True, False], ids=["dropped", "unanswered"])
async def test_a_vm_that_cannot_go_where_it_is_to_finds_back_wherever_it_is_killed(
    *, dropped: bool
) -> None:
    """And nobody else has had its place meanwhile."""
    written = await killed_everywhere(dropped=dropped, to=["node-1"])

    assert {"create configmaps", "create pods eviction", "patch gpunodes"} <= {*written}


@pytest.mark.parametrize("dropped", [True, False], ids=["dropped", "unanswered"])
async def test_a_vm_is_migrated_once_wherever_it_is_killed(*, dropped: bool) -> None:
    written = await killed_everywhere(dropped=dropped, kind=Kind.LIVE)

    assert "create virtualmachineinstancemigrations" in written
    assert "create pods eviction" not in written


@pytest.mark.parametrize("dropped", [True, False], ids=["dropped", "unanswered"])
async def test_a_vm_is_stopped_once_wherever_it_is_killed(*, dropped: bool) -> None:
    """Its eviction is refused, and its owner lets it be restarted."""
    written = await killed_everywhere(dropped=dropped, kind=Kind.RESTART)

    assert "delete virtualmachineinstances" in written


@pytest.mark.parametrize("kind", [Kind.EVICTION, Kind.LIVE, Kind.RESTART])
async def test_no_move_counts_as_made_before_its_vm_is_ready_wherever_it_is_killed(
    kind: Kind,
) -> None:
    written = await killed_everywhere(dropped=False, kind=kind, starting=1.0)

    assert "create configmaps" in written


async def killed_everywhere(
    *,
    dropped: bool,
    to: Sequence[str] = NODES,
    kind: Kind = Kind.EVICTION,
    starting: float = 0.0,
) -> Sequence[str]:
    """Kill an extender at each of its writes in turn; return what it writes if it is not killed."""
    for writes in range(1, MOST_WRITES):
        written = await killed_at(writes, dropped=dropped, to=to, kind=kind, starting=starting)
        if len(written) < writes:
            return written
    raise AssertionError(f"there was no end of writes: {written}")


async def killed_at(
    writes: int, *, dropped: bool, to: Sequence[str], kind: Kind, starting: float
) -> Sequence[str]:
    """Kill an extender at one of its writes after an order was asked of it; return all of them.

    kube-scheduler has VMs go *to* some nodes only; a pod takes some seconds to be Ready.
    """
    world, hopeless = World(), "node-2" not in to
    settings = msgspec.structs.replace(
        PATIENT,
        move_seconds=0.2 if hopeless else 900.0,
        eviction_patience_seconds=0.0 if kind is Kind.RESTART else 60.0,
    )
    allowed = {"annotations": {keys.MOVABLE: "restart"}} if kind is Kind.RESTART else {}
    for name in NODES:
        await world.add_node(name, gpus=[gpu(uuid=f"GPU-of-{name}")])
    machines, kubelets = Machines(world), Kubelets(world.api, starting=starting)
    async with running(world, kubelets=kubelets) as extender:
        await machines.place(extender, "small", "1-10C", "node-1", **allowed)
        await machines.place(extender, "half", "4-40C", "node-2")
        await until(lambda: not extender.knowledge.unready, every=TICK)
    await instance(world, "small", migratable=kind is Kind.LIVE)
    await runs_as(world, "small-1", "small")
    before = await machines.on("small")
    await machines.add("whole", "7-80C")
    left: list[str] = []

    async def hear(call: Call) -> None:
        if call.verb != "get" and call.kind is CONFIG_MAPS and call.done:
            order = await kept(world)
            assert order is None or not order.made or {"small-2", "small-target"} & kubelets.ready
        if call.dry_run:
            return
        if call.subresource == "eviction" and kind is Kind.RESTART:
            raise Throttled(429, "its budget allows no more")
        if call.subresource == "eviction" and call.done:
            left.append(call.name)
        if call.verb == "delete" and call.kind is VIRTUAL_MACHINE_INSTANCES and call.done:
            left.append(call.name)
        if call.verb == "create" and call.kind is MIGRATIONS and call.done:
            left.append(call.name)

    world.api.disturbance = hear
    mortal = MortalApi(world.api, writes=writes, dropped=dropped)
    async with (
        running(world, settings, api=mortal, kubelets=kubelets) as extender,
        machines.running(extender, to),
        KubeVirt(world, "small", "1-10C").running(),
        asyncio.TaskGroup() as tasks,
    ):
        await until(lambda: extender.knowledge.pending.waiting or mortal.dead.is_set(), every=TICK)
        giving = tasks.create_task(applied(extender, ADMIT))

        async def settled() -> bool:
            order = await kept(world)
            return mortal.dead.is_set() or (order is not None and order.over)

        await until(settled, every=TICK)
        giving.cancel()
    async with (
        running(world, settings, kubelets=kubelets) as extender,
        machines.running(extender, to),
        KubeVirt(world, "small", "1-10C").running(),
    ):
        if await kept(world) is None:
            await applied_anew(extender)
        order = await over(world)

        async def placed() -> bool:
            if hopeless:
                return await machines.on("small") == before
            return (await machines.on("whole"))[0] == "node-1"

        await until(placed, every=TICK)
    if hopeless:
        assert order.ending is Outcome.GIVEN_UP
        assert await machines.on("whole") == ("", "", -1)
    else:
        assert order.ending is Outcome.DONE
        assert (await machines.on("small"))[0] == "node-2"
    assert await held(world) == []
    assert len(left) == 1
    return mortal.written


async def applied_anew(extender: Service) -> None:
    """Give the order that was lost on its way."""
    await until(lambda: extender.knowledge.pending.waiting, every=TICK)
    await applied(extender, ADMIT)
