"""What must be the same after hostile requests as before."""

from __future__ import annotations

from typing import Any

import msgspec

from extender.service.knowledge import Knowledge
from nodeagent.api import gpunode
from nodeagent.api.gpunode import GpuNode
from nodeagent.apiserver.protocol import GPU_NODES, LEASES, NODES, PODS
from tests.fakes.world import World


async def standing(world: World, knowledge: Knowledge) -> dict[str, Any]:
    """Return what the API server holds, and what the extender knows and has promised.

    Left out is what counts writes: a bind of a pod that then turns out not to exist writes a plan
    and takes it back, as it must.
    """
    objects: dict[str, list[Any]] = {}
    for kind in (NODES, PODS, LEASES):
        page = await world.api.list(kind, limit=0)
        objects[kind.plural] = [_without_version(msgspec.json.decode(raw)) for raw in page.items]
    page = await world.api.list(GPU_NODES, limit=0)
    objects[GPU_NODES.plural] = [_without_generation(gpunode.decode(raw)) for raw in page.items]
    return {
        "objects": objects,
        "plans": {name: view.node.spec for name, view in knowledge.views.items()},
        "inventories": {name: view.node.status.gpus for name, view in knowledge.views.items()},
        "nodes": dict(knowledge.nodes),
        "pods": dict(knowledge.pods),
        "assigned": dict(knowledge.assigned),
        "ledger": knowledge.ledger,
        "requests": set(knowledge.requests),
        "waiting": set(knowledge.pending.waiting),
        "enlisted": {of: dict(each) for of, each in knowledge.enlisted.members.items()},
        "unseen": len(knowledge.unseen),
        "refused": [each.pod.uid for each in knowledge.refused.shapes()],
    }


def _without_version(found: dict[str, Any]) -> dict[str, Any]:
    return {**found, "metadata": {**found["metadata"], "resourceVersion": ""}}


def _without_generation(node: GpuNode) -> GpuNode:
    return msgspec.structs.replace(
        node,
        metadata=msgspec.structs.replace(node.metadata, generation=0, resource_version=""),
        status=msgspec.structs.replace(node.status, observed_generation=0),
    )
