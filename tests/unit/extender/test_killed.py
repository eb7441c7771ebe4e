"""The extender is killed at each of its writes, once or twice in a row, and the next one goes on.

A plain bind is killed in ``test_binding``, at its reads as well, and orders of moves in ``moving``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import combinations
from typing import Any

import msgspec
import pytest

from extender.claims import is_claim
from extender.service import Service
from nodeagent.api import keys
from nodeagent.api.gpunode import Assignment, PodRef
from nodeagent.apiserver.memory import Call
from nodeagent.apiserver.protocol import (
    GPU_NODES,
    PODS,
    VIRTUAL_MACHINES,
    ApiServer,
    PatchType,
)
from tests.builders import VGPU, instance
from tests.fakes.mortal import MortalApi
from tests.fakes.occupied import placed
from tests.fakes.scheduling import Scheduler
from tests.fakes.world import QUICK, World
from tests.waiting import until

pytestmark = pytest.mark.virtual_time

NODES = ("node-1", "node-2")
MOST_WRITES = 40
SETTINGS = msgspec.structs.replace(
    QUICK,
    plan_settle_seconds=0.001,
    restart_hold_seconds=60.0,
    unseen_pod_recheck_seconds=0.05,
)

Pods = Sequence[dict[str, Any]]
Happening = Callable[[World, asyncio.Event], Awaitable[Pods]]
"""What makes an extender write, until it is dead; it returns the pods that are to be bound."""


class Story(msgspec.Struct, frozen=True):
    """What is there, what happens, what must be written on the way, and what must hold in the end.

    The agents do as they are told if they are *obedient*.
    """

    prepare: Callable[[World, Service], Awaitable[None]]
    happens: Happening
    writes: frozenset[str]
    ends: Callable[[World], Awaitable[None]]
    obedient: bool = True


# The stories.


async def nothing(world: World, extender: Service) -> None:
    """Have all nodes empty."""


async def a_gang_comes(world: World, dead: asyncio.Event) -> Pods:
    said = {keys.GANG: "g", keys.GANG_SIZE: "3"}
    return [
        await world.add_pod(f"member-{n}", wants, annotations=said)
        for n, wants in enumerate(("4-40C", "3-40C", "7-80C"))
    ]


async def each_has_its_own(world: World) -> None:
    plans = [entry for name in NODES for entry in await entries(world, name)]
    decided = [each.id for n in range(3) for each in await world.decision(f"member-{n}")]
    assert sorted(entry.id for entry in plans) == sorted(decided)
    assert len(decided) == 3


async def a_vm_runs(world: World, extender: Service) -> None:
    await world.add_owner(VIRTUAL_MACHINES, "vm")
    await placed(world, extender, "launcher-1", "3-40C", owner=("VirtualMachineInstance", "vm"))


async def it_restarts(world: World, dead: asyncio.Event) -> Pods:
    first = await world.pod("launcher-1")
    assert first is not None
    await world.delete_pod(first)

    async def told() -> bool:
        planned = await entries(world, "node-1")
        return dead.is_set() or all(entry.pod is None for entry in planned)

    await until(told)
    return [await world.add_pod("launcher-2", "3-40C", owner=("VirtualMachineInstance", "vm"))]


async def its_next_pod_has_all_there_is(world: World) -> None:
    plans = [entry for name in NODES for entry in await entries(world, name)]
    assert [entry.id for entry in plans] == [e.id for e in await world.decision("launcher-2")]


async def a_pod_ran_before_us(world: World, extender: Service) -> None:
    await world.add_pod("old", "1-10C")
    await world.api.patch(
        PODS,
        "old",
        {"metadata": {"labels": {keys.MANAGED_LABEL: None}}},
        patch_type=PatchType.MERGE,
        namespace="default",
    )
    binding = {"metadata": {"name": "old"}, "target": {"name": "node-1"}}
    await world.api.create(PODS, binding, namespace="default", name="old", subresource="binding")


async def its_agent_tells_of_it(world: World, dead: asyncio.Event) -> Pods:
    pod = await world.pod("old")
    assert pod is not None
    holder = PodRef("default", "old", pod["metadata"]["uid"])
    status = (await world.gpu_node("node-1")).status
    there = instance(19, 3, holder=holder, resource=VGPU + "1-10C")
    gpus = (msgspec.structs.replace(status.gpus[0], instances=(there,)),)
    await world.report("node-1", msgspec.structs.replace(status, gpus=gpus))
    return []


async def it_is_planned_where_it_is(world: World) -> None:
    pod = await world.pod("old")
    assert pod is not None
    (entry,) = await entries(world, "node-1")
    assert entry.pod is not None
    assert (entry.pod.uid, entry.start) == (pod["metadata"]["uid"], 3)
    assert pod["metadata"]["labels"][keys.MANAGED_LABEL] == "true"


async def all_is_full(world: World, extender: Service) -> None:
    await placed(world, extender, "low", "3-40C", priority=1)
    await placed(world, extender, "other", "4-40C", priority=5)
    await placed(world, extender, "whole", "7-80C", node="node-2", priority=5)


async def one_of_high_priority_comes(world: World, dead: asyncio.Event) -> Pods:
    return [await world.add_pod("high", "3-40C", priority=100)]


async def the_lowest_made_room_and_nobody_else(world: World) -> None:
    plans = [entry for name in NODES for entry in await entries(world, name)]
    assert not any(map(is_claim, plans))
    assert sorted(entry.pod.name for entry in plans if entry.pod) == ["high", "other", "whole"]
    assert await world.pod("low") is None


STORIES = {
    "a gang is reserved and bound": Story(
        nothing,
        a_gang_comes,
        frozenset({"patch gpunodes", "create pods binding"}),
        each_has_its_own,
    ),
    "a place is held and inherited": Story(
        a_vm_runs,
        it_restarts,
        frozenset({"patch gpunodes", "create pods binding"}),
        its_next_pod_has_all_there_is,
    ),
    "a pod is adopted": Story(
        a_pod_ran_before_us,
        its_agent_tells_of_it,
        frozenset({"patch gpunodes"}),
        it_is_planned_where_it_is,
        obedient=False,
    ),
    "a pod is evicted for another": Story(
        all_is_full,
        one_of_high_priority_comes,
        frozenset({"patch gpunodes", "create pods eviction", "create pods binding"}),
        the_lowest_made_room_and_nobody_else,
    ),
}


# Being killed.


@pytest.mark.parametrize("dropped", [True, False], ids=["dropped", "unanswered"])
@pytest.mark.parametrize("name", STORIES)
async def test_wherever_it_is_killed_the_next_one_ends_what_it_began(
    name: str, *, dropped: bool
) -> None:
    assert STORIES[name].writes <= {*await killed_everywhere(STORIES[name], dropped=dropped)}


@pytest.mark.parametrize("again", [1, 2])
@pytest.mark.parametrize("name", STORIES)
async def test_even_if_that_is_killed_at_its_first_writes_as_well(name: str, again: int) -> None:
    await killed_everywhere(STORIES[name], dropped=False, again=again)


async def killed_everywhere(story: Story, *, dropped: bool, again: int = 0) -> Sequence[str]:
    """Kill an extender at each of its writes in turn; return what it writes if it is not killed.

    The one after it is killed at that write of its own, if it is to be killed *again*.
    """
    for writes in range(1, MOST_WRITES):
        written = await killed_at(story, writes, dropped=dropped, again=again)
        if len(written) < writes:
            return written
    raise AssertionError(f"there was no end of writes: {written}")


async def killed_at(story: Story, writes: int, *, dropped: bool, again: int) -> Sequence[str]:
    """Tell a story in which an extender is killed at one of its writes; return all of those."""
    world = World()
    for name in NODES:
        await world.add_node(name)
    async with world.extender(SETTINGS) as extender, agents(world, story):
        await story.prepare(world, extender)
    promised = Promised(world)
    world.api.disturbance = promised
    first = MortalApi(world.api, writes=writes, dropped=dropped)
    async with lives(world, story, first) as extender:
        pods = await story.happens(world, first.dead)
        await goes_on(world, story, extender, pods, first.dead)
    if again:
        second = MortalApi(world.api, writes=again, dropped=dropped)
        async with lives(world, story, second) as extender:
            await goes_on(world, story, extender, pods, second.dead)
    async with lives(world, story, world.api) as extender:
        await goes_on(world, story, extender, pods, asyncio.Event())
    await story.ends(world)
    assert promised.twice == []
    return first.written


@contextlib.asynccontextmanager
async def lives(world: World, story: Story, api: ApiServer) -> AsyncIterator[Service]:
    async with world.extender(SETTINGS, api=api) as extender, agents(world, story):
        yield extender


def agents(world: World, story: Story) -> contextlib.AbstractAsyncContextManager[None]:
    return world.obedient(*NODES) if story.obedient else contextlib.nullcontext()


async def goes_on(
    world: World, story: Story, extender: Service, pods: Pods, dead: asyncio.Event
) -> None:
    """Schedule *pods* until the story has ended, or the extender is dead."""
    scheduler = Scheduler(extender, NODES)

    async def schedule() -> None:
        while True:
            await scheduler.once([p for p in pods if not await world.bound(p["metadata"]["name"])])
            await asyncio.sleep(0.01)

    async def over() -> bool:
        if dead.is_set():
            return True
        if not all([await world.bound(pod["metadata"]["name"]) for pod in pods]):
            return False
        try:
            await story.ends(world)
        except (AssertionError, ValueError):  # not yet; who waits in vain hears of it in the end
            return False
        return True

    scheduling = asyncio.create_task(schedule())
    try:
        with contextlib.suppress(TimeoutError):
            await until(over, within=60.0, every=0.01)
    finally:
        scheduling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await scheduling


async def entries(world: World, node: str) -> tuple[Assignment, ...]:
    return (await world.gpu_node(node)).spec.assignments


class Promised:
    """Looks at each plan that is written; ``twice`` are the entries that overlap in one."""

    def __init__(self, world: World) -> None:
        self.twice: list[tuple[str, str]] = []
        self._world = world

    async def __call__(self, call: Call) -> None:
        if call.kind != GPU_NODES or not call.done or call.verb not in ("patch", "create"):
            return
        there = [e for e in await entries(self._world, call.name) if not is_claim(e)]
        self.twice += [
            (one.id, other.id)
            for one, other in combinations(there, 2)
            if one.gpu == other.gpu and one.placement.mask & other.placement.mask
        ]
