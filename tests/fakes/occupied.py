"""A cluster in which pods already run, for others to be preferred to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from extender.service import Service
from nodeagent.api import keys
from nodeagent.apiserver.protocol import POD_DISRUPTION_BUDGETS, PODS, PatchType
from tests.fakes.scheduling import Scheduler
from tests.fakes.world import World
from tests.waiting import until


async def placed(
    world: World, extender: Service, name: str, *wanted: str, node: str = "node-1", **fields: Any
) -> str:
    """Create a pod and bind it to *node*; return its UID once the extender has heard of both."""
    pod = await world.add_pod(name, *wanted, **fields)
    await Scheduler(extender, [node]).until_bound(world, [pod])
    return await _heard(extender, pod)


async def placed_gang(
    world: World, extender: Service, gang: str, members: Mapping[str, str], nodes: list[str]
) -> list[str]:
    """Create a gang by its members' names, each with what it wants, and bind it."""
    said = {keys.GANG: gang, keys.GANG_SIZE: str(len(members))}
    pods = [await world.add_pod(name, each, annotations=said) for name, each in members.items()]
    await Scheduler(extender, nodes).until_bound(world, pods)
    return [await _heard(extender, pod) for pod in pods]


async def guarded(
    world: World, budget: str, *names: str, allows: int, namespace: str = "default"
) -> None:
    """Create a disruption budget that is about pods, and allows so many evictions of them."""
    labels = {budget: "guards"}
    for name in names:
        change = {"metadata": {"labels": labels}}
        await world.api.patch(PODS, name, change, patch_type=PatchType.MERGE, namespace=namespace)
    body = {"metadata": {"name": budget}, "spec": {"selector": {"matchLabels": labels}}}
    await world.api.create(POD_DISRUPTION_BUDGETS, body, namespace=namespace)
    await world.api.patch(
        POD_DISRUPTION_BUDGETS,
        budget,
        {"status": {"disruptionsAllowed": allows, "observedGeneration": 1}},
        patch_type=PatchType.MERGE,
        namespace=namespace,
        subresource="status",
    )


async def _heard(extender: Service, pod: Mapping[str, Any]) -> str:
    uid, known = str(pod["metadata"]["uid"]), extender.knowledge.pods
    await until(lambda: uid in known and known[uid].node)
    return uid
