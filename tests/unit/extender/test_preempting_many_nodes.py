"""Victims for a pod of several vGPUs are found wherever they are, a part of the nodes at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import pytest

from extender.policy.file import parsed
from extender.request import Request
from extender.service import Service
from extender.service.shapes import shape_of
from extender.service.weighing import FOR_SEVERAL
from extender.verbs.victims import Preemption
from nodeagent.apiserver.memory import Call
from nodeagent.apiserver.protocol import POD_DISRUPTION_BUDGETS, PODS, Throttled
from tests.fakes.occupied import guarded, placed
from tests.fakes.scheduling import Scheduler
from tests.fakes.world import World
from tests.unit.extender.test_preempting import Audit, asks
from tests.waiting import until

pytestmark = pytest.mark.virtual_time

EMPTY = [f"empty-{at:02}" for at in range(FOR_SEVERAL + 1)]
FULL = "full"
NODES = [*EMPTY, FULL]
FIRST, NEXT = {*EMPTY[:-1]}, {EMPTY[-1], FULL}
"""What is looked at in the first go where somebody may go everywhere, and in the next."""
WANTED = ("4-40C", "3-40C")
"""Both on one GPU: it has all slices of that, and nothing else may be there."""

RULES = """
apiVersion: tangram.dev/v1alpha1
kind: PlacementPolicy
tenants:
- {{name: gold, namespaces: {{matchLabels: {{team: gold}}}}, priority: {priority}}}
"""


@pytest.fixture
async def world() -> World:
    made = World()
    for name in NODES:
        await made.add_node(name)
    return made


async def filled(world: World, extender: Service, *, priority: int) -> None:
    """Have a small pod of the *priority* on every node, and on one a large one, of the lowest."""
    for name in EMPTY:
        await placed(world, extender, f"on-{name}", "1-10C", node=name, priority=priority)
    await placed(world, extender, "whole", "7-80C", node=FULL, priority=1)


@dataclass
class Go:
    """For which pod victims are looked for, and where; ``more`` is whether there is more to see.

    That is known once the go is over.
    """

    uid: str
    nodes: list[str] = field(default_factory=list)
    more: bool | None = None


class Goes:
    """All goes from here on, in order; *then* is done as soon as the first is over."""

    def __init__(self, extender: Service, then: Callable[[], object] = lambda: None) -> None:
        self.all: list[Go] = []
        self._knowledge = extender.knowledge
        self._then = then
        self._weighing = extender._preempting._weighing  # type: ignore[union-attr]
        self._cheapest, self._on = self._weighing.cheapest, self._weighing.on
        self._weighing.cheapest = self._begun  # type: ignore[method-assign]
        self._weighing.on = self._looked_at  # type: ignore[method-assign]

    def over(self, count: int) -> bool:
        """Tell whether so many are over."""
        return len(self.all) >= count and self.all[count - 1].more is not None

    async def _begun(
        self, request: Request, tried: Collection[str], *, waits: bool
    ) -> Preemption | None:
        go = Go(request.pod.uid)
        self.all.append(go)
        try:
            return await self._cheapest(request, tried, waits=waits)
        finally:
            go.more = self._weighing.has_more(shape_of(self._knowledge, request))
            if go is self.all[0]:
                self._then()

    def _looked_at(self, request: Request, node: str, *, waits: bool) -> Preemption | None:
        if self.all[-1].more is None:  # else a place is about to be claimed
            self.all[-1].nodes.append(node)
        return self._on(request, node, waits=waits)


async def test_nodes_where_nobody_may_go_keep_no_other_from_being_looked_at(world: World) -> None:
    audit = Audit(world)
    async with world.extender() as extender, world.obedient(*NODES):
        await filled(world, extender, priority=100)
        goes = Goes(extender)
        high = await asks(world, *WANTED)
        await Scheduler(extender, NODES).until_bound(world, [high])

    assert audit.evicted == ["whole"]
    assert {*goes.all[0].nodes} == {FULL}
    assert not goes.all[0].more


async def test_where_nobody_goes_on_the_emptiest_the_next_are_looked_at(world: World) -> None:
    """A budget guards whoever is there, which counting does not tell."""
    audit = Audit(world)
    async with world.extender() as extender, world.obedient(*NODES):
        await filled(world, extender, priority=1)
        await guarded(world, "db", *(f"on-{name}" for name in EMPTY), allows=0)
        goes = Goes(extender)
        high = await asks(world, *WANTED)
        await Scheduler(extender, NODES).until_bound(world, [high])

    assert audit.evicted == ["whole"]
    assert len(FIRST) == FOR_SEVERAL
    assert [{*go.nodes} for go in goes.all[:2]] == [FIRST, NEXT]
    assert [go.more for go in goes.all[:2]] == [True, False]


async def all_guarded(world: World, extender: Service) -> None:
    """Have somebody on every node whom eviction would help, if no budget were in its way."""
    await filled(world, extender, priority=1)
    await guarded(world, "db", "whole", *(f"on-{name}" for name in EMPTY), allows=0)


async def test_once_all_nodes_were_looked_at_in_vain_the_first_are_looked_at_again(
    world: World,
) -> None:
    audit = Audit(world)
    async with world.extender() as extender, world.obedient(*NODES):
        await all_guarded(world, extender)
        goes, scheduler = Goes(extender), Scheduler(extender, NODES)
        high = await asks(world, *WANTED)
        await until(lambda: scheduler.place(high) or goes.over(4))

    assert [{*go.nodes} for go in goes.all[:4]] == [FIRST, NEXT, FIRST, NEXT]
    assert [go.more for go in goes.all[:4]] == [True, False, True, False]
    assert audit.asked == 0


async def test_of_pods_that_ask_alike_each_goes_on_where_the_last_ended(world: World) -> None:
    async with world.extender() as extender, world.obedient(*NODES):
        await all_guarded(world, extender)
        goes, scheduler = Goes(extender), Scheduler(extender, NODES)
        pods = [await asks(world, *WANTED, name=name) for name in ("one", "other")]
        await until(lambda: any(map(scheduler.place, pods)) or goes.over(1))
        names = {pod["metadata"]["uid"]: pod["metadata"]["name"] for pod in pods}
        gone = names.pop(goes.all[0].uid)
        await world.api.delete(PODS, gone, namespace="default")
        (left,) = (pod for pod in pods if pod["metadata"]["name"] != gone)
        await until(lambda: scheduler.place(left) or goes.over(2))

    assert [go.uid for go in goes.all[1:2]] == [*names]
    assert [{*go.nodes} for go in goes.all[:2]] == [FIRST, NEXT]


async def test_nodes_whose_budgets_could_not_be_read_are_looked_at_again(world: World) -> None:
    async def fails(call: Call) -> None:
        if call.verb == "list" and call.kind == POD_DISRUPTION_BUDGETS:
            raise Throttled(429, "not now")

    async with world.extender() as extender, world.obedient(*NODES):
        await all_guarded(world, extender)
        audit = Audit(world)

        def reads() -> None:
            world.api.disturbance = audit

        goes, scheduler = Goes(extender, reads), Scheduler(extender, NODES)
        world.api.disturbance = fails
        high = await asks(world, *WANTED)
        await until(lambda: scheduler.place(high) or goes.over(2))

    assert [{*go.nodes} for go in goes.all[:2]] == [FIRST, FIRST]
    assert [go.more for go in goes.all[:2]] == [False, True]


async def test_once_nobody_is_of_lower_priority_there_is_no_more_to_look_at(world: World) -> None:
    """Or such pods would be thought of again and again, and never more rarely."""
    even, above = (
        parsed(RULES.format(priority=each).encode(), "rules").in_force for each in (0, 1000)
    )
    await world.add_namespace("default", team="gold")
    await world.add_namespace("poor")
    async with world.extender(policy=even) as extender, world.obedient(*NODES):
        await all_guarded(world, extender)
        goes = Goes(extender, then=lambda: extender.knowledge.adopt(above))
        scheduler = Scheduler(extender, NODES)
        high = await asks(world, *WANTED, namespace="poor")
        await until(lambda: scheduler.place(high) or goes.over(2))

    assert [{*go.nodes} for go in goes.all[:2]] == [FIRST, set()]
    assert [go.more for go in goes.all[:2]] == [True, False]
