"""What pods have in common for which the same victims are looked for."""

from __future__ import annotations

from typing import NamedTuple

from extender.packing.spread import Spread
from extender.request import Request, Wanted
from extender.service.knowledge import Knowledge


class Shape(NamedTuple):
    """What is asked for, by whom, and the nodes that it may be on; ``priority`` is of the pods."""

    wanted: Wanted
    spread: Spread
    priority: int
    tenant: str
    nodes: frozenset[str]


def shape_of(knowledge: Knowledge, request: Request) -> Shape:
    """Return what a request has in common with others; its nodes are those of its last filter."""
    waiting = knowledge.pending.waiting.get(request.pod.uid)
    return Shape(
        request.wanted,
        request.spread,
        knowledge.tenancy.priority(request),
        knowledge.tenancy.tenant_of(request.pod.namespace),
        frozenset() if waiting is None else waiting.nodes,
    )
