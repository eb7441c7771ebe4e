"""Judges places on their way out: nobody else has them before the agent has said they are free.

An entry that has left a plan, or lost its pod, is *releasing*: its GPU instance may be there, or
even be made yet, until the agent has reported on that plan and lists nothing in its place. Only its
owner's next pod may be promised it sooner: the agent destroys the one before it makes the next.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from nodeagent.api.gpunode import GpuNode, OwnerRef
from tests.e2e.chaos.spots import Spot, existing, fresh, spot


class Releasing(msgspec.Struct, frozen=True):
    """An entry's place that was taken back in the plan of a *generation*."""

    id: str
    spot: Spot
    owner: OwnerRef | None
    generation: int

    def over(self, node: GpuNode) -> bool:
        """Tell whether the agent has said that there is nothing any more."""
        seen = node.status.observed_generation >= self.generation
        return seen and not any(self.spot.overlaps(each) for each in existing(node))


class Releases:
    """The places of one history that are on their way out, by node; ``seen`` counts them all."""

    def __init__(self) -> None:
        self.seen = 0
        self._on: dict[str, tuple[Releasing, ...]] = {}

    def node_written(self, before: GpuNode, now: GpuNode) -> Iterator[str]:
        """Judge a node's plan by the one before, and by what its inventory says now."""
        left = tuple(_left(before, now))
        leaving = (*self._on.get(now.name, ()), *left)
        for entry in fresh(before.spec, now.spec):
            for each in leaving:
                own = each.owner is not None and entry.owner == each.owner
                if not own and spot(entry).overlaps(each.spot) and not each.over(now):
                    yield f"promised twice: {entry.id} where {each.id} is on its way out"
        self.seen += len(left)
        self._on[now.name] = tuple(each for each in leaving if not each.over(now))

    def gone(self, name: str) -> None:
        """Note that a node's plan and inventory are no more."""
        self._on.pop(name, None)


def _left(before: GpuNode, now: GpuNode) -> Iterator[Releasing]:
    kept = {e.id: (spot(e), e.pod) for e in now.spec.assignments}
    for entry in before.spec.assignments:
        if entry.pod is not None and kept.get(entry.id) != (spot(entry), entry.pod):
            yield Releasing(entry.id, spot(entry), entry.owner, now.metadata.generation)
