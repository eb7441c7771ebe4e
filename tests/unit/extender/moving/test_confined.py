"""Nobody is stopped for a node on which its next pod may not run, whatever the plan was made by."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from extender.advice import Asked
from extender.moving import Outcome
from extender.service import Service
from nodeagent.apiserver.memory import Call
from nodeagent.apiserver.protocol import NODES, PatchType, Throttled
from tests.fakes.ahead import Ahead
from tests.fakes.machines import Machines
from tests.fakes.world import World
from tests.unit.extender.moving.orders import NODES as BOTH
from tests.unit.extender.moving.orders import PATIENT, applied, events, held, kept, over, running
from tests.waiting import until

pytestmark = pytest.mark.virtual_time

DRAIN = Asked(drain=("node-1",))
TAINT = {"key": "gpu", "value": "reserved", "effect": "NoSchedule"}
TOLERATION = {"key": "gpu", "operator": "Exists"}
NOT_THERE = (
    "vGPU: a move waits: the VM's next pod may not run on node-2:"
    " taint gpu=reserved:NoSchedule is not tolerated"
)


async def taint(world: World, extender: Service, *taints: dict[str, str]) -> None:
    """Give node-2 these taints, and wait until the extender has heard of it."""
    change: dict[str, Any] = {"spec": {"taints": taints}}
    await world.api.patch(NODES, "node-2", change, patch_type=PatchType.MERGE)
    await until(lambda: len(extender.knowledge.traits["node-2"].taints) == len(taints))


def refused(world: World) -> list[str]:
    """Have evictions refused; return the list of what is asked for."""
    asked: list[str] = []

    async def refuse(call: Call) -> None:
        if call.subresource == "eviction" and not call.done and not call.dry_run:
            asked.append(call.name)
            raise Throttled(429, "its budget allows no more")

    world.api.disturbance = refuse
    return asked


async def steps(extender: Service, count: int) -> None:
    assert extender.moving is not None
    for _ in range(count):
        await extender.moving.step()


@pytest.mark.parametrize("passes", [True, False], ids=["passes", "stays"])
async def test_a_taint_that_comes_after_the_plan_has_the_vm_stay(
    world: World, machines: Machines, *, passes: bool
) -> None:
    asked, clock = refused(world), Ahead()
    settings = msgspec.structs.replace(PATIENT, move_seconds=35.0)
    async with running(world, settings, clock=clock) as extender:
        await machines.place(extender, "a", "1-10C", "node-1")
        (before,) = (await machines.pods()).values()
        await applied(extender, DRAIN)
        await until(lambda: asked)
        await taint(world, extender, TAINT)
        await steps(extender, 1)
        asked.clear()
        clock.by = 31.0  # so long that it is told what is waited for
        await steps(extender, 3)
        order = await kept(world)
        assert order is not None
        assert (asked, order.ending) == ([], None)
        assert await held(world) != []
        assert {told for _, told in await events(world, "VgpuMoveWaits")} == {NOT_THERE}
        world.api.disturbance = None
        if passes:
            await taint(world, extender)
        else:
            clock.by = 37.0  # and no agent has been silent for long
        async with machines.running(extender, BOTH):
            order = await over(world)

    (after,) = (await machines.pods()).values()
    assert await held(world) == []
    if passes:
        assert order.ending is Outcome.DONE
        assert (await machines.on("a"))[0] == "node-2"
    else:
        assert order.ending is Outcome.GIVEN_UP
        assert after["metadata"]["uid"] == before["metadata"]["uid"]


async def test_a_plan_goes_by_what_pods_and_nodes_say_now(world: World, machines: Machines) -> None:
    async with running(world) as extender:
        await machines.place(extender, "a", "1-10C", "node-1")
        await taint(world, extender, TAINT)
        barred = await extender.advisor.advise(DRAIN)
        await taint(world, extender)
        free = await extender.advisor.advise(DRAIN)

    (why_not,) = barred.obstacles
    assert TAINT["key"] in why_not.why
    assert (barred.attains, free.attains) == (False, True)


async def test_a_vm_whose_pod_tolerates_the_taint_is_moved(
    world: World, machines: Machines
) -> None:
    async with running(world) as extender:
        fields = {"tolerations": [TOLERATION]}
        await machines.place(extender, "a", "1-10C", "node-1", **fields)
        await taint(world, extender, TAINT)
        await applied(extender, DRAIN)
        async with machines.running(extender, BOTH):
            order = await over(world)

    assert order.ending is Outcome.DONE
    assert (await machines.on("a"))[0] == "node-2"


async def test_what_is_known_of_a_pod_or_a_node_is_forgotten_with_it(
    world: World, machines: Machines
) -> None:
    async with running(world) as extender:
        fields = {"tolerations": [TOLERATION]}
        await machines.place(extender, "a", "1-10C", "node-1", **fields)
        knowledge = extender.knowledge
        assert len(knowledge.constraints) == 1
        await world.api.delete(NODES, "node-2")
        await until(lambda: "node-2" not in knowledge.traits)
        await world.delete_pod((await machines.pods())["a"])
        await until(lambda: not knowledge.constraints)
