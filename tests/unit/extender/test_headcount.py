"""How many instances are wanted is counted now and then: what pods have, and what they wait for."""

from __future__ import annotations

import asyncio

import msgspec

from extender.cluster import KubernetesCluster
from extender.service import Service
from extender.service.headcount import COUNT_SECONDS, wanted
from extender.simulation.history import DAY
from nodeagent.apiserver.memory import InMemoryApi
from tests.explained import Small, Vm
from tests.fakes.replicas import Replicas, utc_now
from tests.fakes.world import filter_args
from tests.virtual_time import in_virtual_time


def test_who_has_a_place_counts_and_who_waits_for_one_but_nobody_twice() -> None:
    async def story() -> None:
        world = Replicas()
        await world.add_node("node-1", gpus=1)
        placed = await world.add_pod("placed", "7-80C")
        waiting = await world.add_pod("waiting", "3-40C")
        async with world.extenders("a", "b") as (a, b), world.obedient("node-1"):
            demand = a.service.knowledge.demand
            assert await a.schedule(placed) == ""
            await asyncio.sleep(COUNT_SECONDS)
            assert demand.history.latest == {"7g.80gb": 1}
            for _ in range(2):
                assert not a.service.hooks.filter(filter_args(waiting, "node-1")).node_names
            await a.service.headcount.count()

            assert demand.history.periods == (int(utc_now().timestamp()) // DAY,)
            assert demand.history.latest == {"7g.80gb": 1, "3g.40gb": 1}
            assert not b.service.knowledge.demand.history.periods

    in_virtual_time(story())


async def test_what_is_planned_on_a_gpu_that_is_gone_has_no_profile_and_is_not_counted() -> None:
    service = Service(KubernetesCluster(InMemoryApi()))
    knowledge = service.knowledge
    small = Small.of([Vm("x", 19, "a", 0, 4), Vm("y", 9, "b", 0, 0)], a=1, b=1)
    for name, there in small.views.items():
        status = there.node.status
        gone = status if name == "a" else msgspec.structs.replace(status, gpus=())
        knowledge.gpu_node(msgspec.structs.replace(there.node, status=gone))

    assert wanted(knowledge) == {"1g.10gb": 1}
