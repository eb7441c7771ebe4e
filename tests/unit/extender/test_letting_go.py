"""What was held for too long leaves the plan, whatever becomes of the write that says so."""

from __future__ import annotations

import msgspec
import pytest

from extender.cluster import KubernetesCluster
from extender.service import Service
from extender.service.patience import Patience
from extender.service.plans import Plans
from extender.service.ports import ClusterUnavailable, Feed
from nodeagent.api.gpunode import Assignment, OwnerRef
from nodeagent.apiserver.memory import Call
from nodeagent.apiserver.protocol import (
    GPU_NODES,
    ApiError,
    Conflict,
    PatchType,
    Unavailable,
)
from tests.builders import assignment
from tests.fakes.world import World

NODE = "node-1"
VM = OwnerRef("VirtualMachineInstance", "default", "vm")
HELD = assignment("held", 19, 0, pod=None, owner=VM)
PATIENT_SECONDS = 10.0


@pytest.fixture
async def world() -> World:
    made = World()
    await made.add_node(NODE)
    await plan(made, HELD)
    return made


async def plan(world: World, *entries: Assignment) -> None:
    """Write a plan by hand."""
    change = {"spec": {"assignments": msgspec.to_builtins(entries)}}
    await world.api.patch(GPU_NODES, NODE, change, patch_type=PatchType.MERGE)


async def planned(world: World) -> list[str]:
    return [each.id for each in (await world.gpu_node(NODE)).spec.assignments]


class Letting:
    """An extender that knows the plan as it was; for it, the time of all that is held is over."""

    def __init__(self, world: World) -> None:
        self._world = world
        cluster = KubernetesCluster(world.api)
        self.knowledge = Service(cluster).knowledge
        self._plans = Plans(self.knowledge, cluster)
        self.patches = 0
        self._fates: list[tuple[ApiError | None, tuple[Assignment, ...] | None, bool]] = []

    async def know(self) -> None:
        knowledge = self.knowledge
        for feed in Feed:
            knowledge.feed_synced(feed)
        began = knowledge.clock()
        knowledge.clock = lambda: began
        knowledge.gpu_node(await self._world.gpu_node(NODE))
        knowledge.clock = lambda: began + knowledge.settings.restart_hold_seconds
        knowledge.tick()
        assert knowledge.views[NODE].lapsed
        self._world.api.disturbance = self._disturb

    def meets(
        self, error: ApiError | None, *others: Assignment, done: bool = False, anew: bool = False
    ) -> None:
        """Let the next write meet an error, before or after it is *done*.

        With *anew*, somebody else has written a plan of the *others* just before it arrives.
        """
        self._fates.append((error, others if anew else None, done))

    async def let_go(self, *, seconds: float = PATIENT_SECONDS) -> None:
        until = self.knowledge.clock() + seconds
        await self._plans.let_go(NODE, Patience(self.knowledge, until=until, chance=lambda: 0.0))

    async def _disturb(self, call: Call) -> None:
        if (call.verb, call.name, call.subresource) != ("patch", NODE, ""):
            return
        self.patches += not call.done
        if not self._fates or self._fates[0][2] is not call.done:
            return
        error, others, _ = self._fates.pop(0)
        if others is not None:
            self._world.api.disturbance = None
            await plan(self._world, *others)
            self._world.api.disturbance = self._disturb
        if error is not None:
            raise error


@pytest.fixture
async def letting(world: World) -> Letting:
    made = Letting(world)
    await made.know()
    return made


async def test_what_was_held_for_too_long_leaves_the_plan(world: World, letting: Letting) -> None:
    await letting.let_go()

    assert await planned(world) == []
    assert letting.patches == 1


async def test_a_conflict_that_is_none_is_tried_again(world: World, letting: Letting) -> None:
    letting.meets(Conflict(409, "the object has been modified"))

    await letting.let_go()

    assert await planned(world) == []
    assert letting.patches == 2


async def test_what_somebody_else_has_planned_meanwhile_stays(
    world: World, letting: Letting
) -> None:
    letting.meets(None, HELD, assignment("new", 19, 3), anew=True)

    await letting.let_go()

    assert await planned(world) == ["new"]


async def test_a_place_that_its_owners_next_pod_has_by_now_is_left_to_it(
    world: World, letting: Letting
) -> None:
    letting.meets(None, assignment("next", 19, 0, owner=VM), anew=True)

    await letting.let_go()

    assert await planned(world) == ["next"]
    assert letting.patches == 1, "there is nothing left to be taken back"


@pytest.mark.parametrize(("done", "patches"), [(False, 2), (True, 1)], ids=["dropped", "made"])
async def test_a_write_without_an_answer_is_looked_for_before_it_is_made_again(
    world: World, letting: Letting, *, done: bool, patches: int
) -> None:
    letting.meets(Unavailable(0, "the connection broke"), done=done)

    await letting.let_go()

    assert await planned(world) == []
    assert letting.patches == patches


async def test_one_that_comes_to_the_server_after_it_was_looked_for_counts(
    world: World, letting: Letting
) -> None:
    """Its second try is a conflict then, and with itself."""
    letting.meets(Unavailable(0, "no answer within 5 s"))
    letting.meets(None, anew=True)

    await letting.let_go()

    assert await planned(world) == []
    assert letting.patches == 2


async def test_what_could_not_be_let_go_in_time_is_let_go_by_the_next_sweep(
    world: World, letting: Letting
) -> None:
    letting.meets(Unavailable(0, "the connection broke"))

    with pytest.raises(ClusterUnavailable):
        await letting.let_go(seconds=0.0)
    assert await planned(world) == ["held"]
    await letting.let_go()

    assert await planned(world) == []
