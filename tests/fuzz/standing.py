"""What must be the same after hostile requests as before."""

from __future__ import annotations

from typing import Any

import msgspec

from extender.service.knowledge import Knowledge
from nodeagent.apiserver.protocol import GPU_NODES, LEASES, NODES, PODS
from tests.fakes.world import World


async def standing(world: World, knowledge: Knowledge) -> dict[str, Any]:
    """Return what the API server holds, and what the extender knows and has promised.

    Left out is what counts writes: a bind of a pod that then turns out not to exist writes a plan
    and takes it back, as it must.
    """
    objects = {}
    for kind in (NODES, PODS, GPU_NODES, LEASES):
        page = await world.api.list(kind, limit=0)
        objects[kind.plural] = [_without_counts(msgspec.json.decode(raw)) for raw in page.items]
    return {
        "objects": objects,
        "plans": {name: view.node.spec for name, view in knowledge.views.items()},
        "inventories": {name: view.node.status.gpus for name, view in knowledge.views.items()},
        "nodes": dict(knowledge.nodes),
        "pods": dict(knowledge.pods),
        "assigned": dict(knowledge.assigned),
        "ledger": knowledge.ledger,
        "requests": set(knowledge.requests),
        "refused": [each.pod.uid for each in knowledge.refused.shapes()],
    }


def _without_counts(found: dict[str, Any]) -> dict[str, Any]:
    meta = {k: v for k, v in found["metadata"].items() if k not in _COUNTS}
    rest = {k: v for k, v in found.items() if k not in ("metadata", "status")}
    status = {k: v for k, v in found.get("status", {}).items() if k not in _COUNTS}
    return rest | {"metadata": meta, "status": status}


_COUNTS = ("resourceVersion", "generation", "observedGeneration")
