"""The mover's loop: whatever its steps come to, others have their turns."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import UTC, datetime

import msgspec
import pytest

from extender.advice import Asked
from extender.cluster import ApiEvictor, KubernetesCluster, KubeVirtRelocator, OwnPod
from extender.moving import Order, order_of
from extender.service import Service
from extender.service.departing import Departing
from extender.service.move_telling import MoveTeller
from extender.service.moving import Moving
from extender.service.patience import Patience
from extender.service.plans import Plans
from extender.service.ports import PlanConflict
from extender.service.relocation import Kept
from extender.snapshot import NodeView
from nodeagent.api import keys
from nodeagent.api.gpunode import Assignment
from tests.fakes.machines import Machines
from tests.fakes.world import World
from tests.unit.extender.moving.orders import PATIENT, running
from tests.waiting import until

pytestmark = pytest.mark.virtual_time

SELDOM = msgspec.structs.replace(PATIENT, sweep_interval_seconds=600.0)


class Contested(Plans):
    """Plans that somebody else changes first, each time one is written."""

    tries = 0

    async def write(
        self,
        view: NodeView,
        *,
        add: Collection[Assignment] = (),
        remove: Collection[str] = (),
        hold: Collection[str] = (),
        patience: Patience | None = None,
        told: bool = False,
    ) -> None:
        self.tries += 1
        raise PlanConflict("somebody else has changed the plan")


class Remembered:
    """Orders kept in memory alone, where no other mover finds them."""

    def __init__(self) -> None:
        self._kept: Kept | None = None

    async def read(self) -> Kept | None:
        return self._kept

    async def write(self, order: Order, before: Kept | None) -> Kept:
        self._kept = Kept(order, "1" if before is None else str(int(before.version) + 1))
        return self._kept


def mover(world: World, extender: Service, plans: Plans) -> Moving:
    knowledge = extender.knowledge
    departing = Departing(knowledge, ApiEvictor(world.api), KubeVirtRelocator(world.api))
    teller = MoveTeller(knowledge, None, None)
    return Moving(
        knowledge, plans, Remembered(), departing, teller, utc_now=lambda: datetime.now(UTC)
    )


async def test_a_step_that_has_no_effect_is_taken_twice_and_then_waited_with(
    world: World, machines: Machines
) -> None:
    """And nobody else waits for the loop: no step of this one ever waits by itself."""
    async with running(world, SELDOM) as extender:
        await machines.place(extender, "a", "1-10C", "node-1")
        found = await extender.advisor.plan(Asked(drain=("node-1",)))
        cluster = KubernetesCluster(world.api, own_pod=OwnPod(keys.SYSTEM_NAMESPACE, "extender-0"))
        plans = Contested(extender.knowledge, cluster)
        moving = mover(world, extender, plans)
        order = order_of("0123456789ab", found.errands, since="now", goals=found.advice.goals)
        await moving.give(lambda before: order)
        async with asyncio.TaskGroup() as tasks:
            run = tasks.create_task(moving.run())
            await until(lambda: plans.tries)
            for _ in range(100):
                await asyncio.sleep(0)
            run.cancel()

    assert plans.tries == 3, "twice, and once more for the order that was given"
