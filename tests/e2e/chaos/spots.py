"""Where things are: GPU instances as locks on intervals of memory slices."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from nodeagent.api.gpunode import Assignment, Decision, GpuNode, Plan


class Spot(msgspec.Struct, frozen=True, order=True):
    """A GPU instance by where it is; ``start`` and ``size`` in memory slices."""

    gpu: str
    profile_id: int
    start: int
    size: int

    def overlaps(self, other: Spot) -> bool:
        """Tell whether both cover a slice of one GPU."""
        apart = self.start + self.size <= other.start or other.start + other.size <= self.start
        return self.gpu == other.gpu and not apart


def spot(of: Assignment | Decision) -> Spot:
    """Return where that is."""
    return Spot(of.gpu, of.profile_id, of.start, of.size)


def existing(node: GpuNode) -> list[Spot]:
    """Return where the GPU instances are that a node's agent reports."""
    return [
        Spot(gpu.uuid, each.profile_id, each.start, each.size)
        for gpu in node.status.gpus
        for each in gpu.instances
    ]


def fresh(before: Plan, now: Plan) -> Iterator[Assignment]:
    """Yield the entries of a plan that are new, or have another place or pod than they had.

    One that has lost its pod is held where it was, which is nothing new.
    """
    known = {each.id: each for each in before.assignments}
    for entry in now.assignments:
        last = known.get(entry.id)
        if last is None or spot(last) != spot(entry) or entry.pod not in (None, last.pod):
            yield entry
