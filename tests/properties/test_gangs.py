"""Whatever call fails and whenever the extender is killed: no half gang, no slice twice."""

from __future__ import annotations

import asyncio
from collections import Counter

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodeagent.api import keys
from nodeagent.apiserver.memory import Call
from nodeagent.apiserver.protocol import GPU_NODES, PODS, Unavailable
from tests.fakes.scheduling import Scheduler
from tests.fakes.world import QUICK, World

NODES = ("node-1", "node-2")
SOON = msgspec.structs.replace(
    QUICK, plan_settle_seconds=0.001, plan_burst_pods=0, http_timeout_seconds=0.5
)
WRITES = {("patch", GPU_NODES, ""), ("create", PODS, "binding")}

types = st.sampled_from(["1-10C", "2-20C", "3-40C", "4-40C", "7-80C"])
faults = st.dictionaries(
    st.integers(1, 16),
    st.sampled_from(["lost before", "lost after", "killed before", "killed after"]),
    max_size=4,
)


class Fate:
    """Counts the calls that matter and lets some fail, or the extender die in the middle of one."""

    def __init__(self, planned: dict[int, str]) -> None:
        self._planned = planned
        self._calls = 0
        self.killed = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        if (call.verb, call.kind, call.subresource) not in WRITES:
            return
        self._calls += not call.done
        what, _, when = self._planned.get(self._calls, "").partition(" ")
        if (when == "after") is not call.done or not what:
            return
        del self._planned[self._calls]
        if what == "lost":
            raise Unavailable(0, "connection reset")
        self.killed.set()
        await asyncio.Event().wait()


async def slices(world: World) -> Counter[tuple[str, str, int]]:
    found: Counter[tuple[str, str, int]] = Counter()
    for name in NODES:
        for entry in (await world.gpu_node(name)).spec.assignments:
            for slice in range(entry.start, entry.start + entry.size):
                found[name, entry.gpu, slice] += 1
    return found


async def story(members: list[str], others: list[str], planned: dict[int, str]) -> None:
    world = World()
    for name in NODES:
        await world.add_node(name)
    said = {keys.GANG: "g", keys.GANG_SIZE: str(len(members))}
    gang = [
        await world.add_pod(f"member-{at}", each, annotations=said)
        for at, each in enumerate(members)
    ]
    pods = [*gang, *[await world.add_pod(f"other-{at}", each) for at, each in enumerate(others)]]
    fate = Fate(planned)
    world.api.disturbance = fate

    async def attempts(scheduler: Scheduler, rounds: int) -> None:
        for _ in range(rounds):
            waiting = [p for p in pods if not await world.bound(p["metadata"]["name"])]
            await scheduler.once(waiting)
            assert max((await slices(world)).values(), default=1) == 1
            await asyncio.sleep(0.01)

    async with world.obedient(*NODES):
        for _ in range(5):
            fate.killed.clear()
            async with world.extender(SOON) as extender, asyncio.TaskGroup() as tasks:
                trying = tasks.create_task(attempts(Scheduler(extender, NODES), 12))
                killed = tasks.create_task(fate.killed.wait())
                await asyncio.wait({trying, killed}, return_when=asyncio.FIRST_COMPLETED)
                alive = trying.done()
                trying.cancel()
                killed.cancel()
            if alive:
                break
        world.api.disturbance = None
        async with world.extender(SOON) as last:
            scheduler = Scheduler(last, NODES)
            for _ in range(60):
                await attempts(scheduler, 1)
                bound = [p for p in gang if await world.bound(p["metadata"]["name"])]
                if len(bound) == len(gang) or (last.knowledge.enlisted.no_room and not bound):
                    break
                await asyncio.sleep(0.02)

    bound = [p for p in gang if await world.bound(p["metadata"]["name"])]
    assert len(bound) in (0, len(gang))
    if not bound:
        uids = {p["metadata"]["uid"] for p in gang}
        for name in NODES:
            entries = (await world.gpu_node(name)).spec.assignments
            assert not {e.pod.uid for e in entries if e.pod is not None} & uids


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(types, min_size=2, max_size=4),
    st.lists(types, max_size=3),
    faults,
)
def test_a_gang_is_bound_whole_or_not_at_all_whatever_fails(
    members: list[str], others: list[str], planned: dict[int, str]
) -> None:
    asyncio.run(story(members, others, dict(planned)))
