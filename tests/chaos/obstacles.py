"""What agents tell to be in the way, as far as whoever writes a plan may still go by it.

A plan's writer can know of a GPU only what the agent has told, and may not have heard the last of
that: its write tests the plan's generation alone. It has seen what was told when the plan came to
be what it is, or something told since. So a place is clear to it for certain only if nothing was
told to be in the way all that time, whatever is on the GPU by now: an instance that somebody has
removed counts until then, and so does an ailment that has passed.
"""

from __future__ import annotations

from collections.abc import Callable

from nodeagent.api.gpunode import Assignment, Gpu, GpuNode, Instance


class Obstacles:
    """All that was told of each GPU since its node's plan is what it is.

    *ours* tells of a GPU instance that was told, on a GPU, whether it is there, made by an agent:
    one that its agent does not know as its own is nobody's excuse.
    """

    def __init__(self, *, ours: Callable[[str, Instance], bool]) -> None:
        self._ours = ours
        self._told: dict[str, list[Gpu]] = {}

    def anew(self, node: GpuNode) -> None:
        """See that the plan of *node* is another: its writer is told all of what is known now."""
        for gpu in node.status.gpus:
            self._told[gpu.uuid] = []
        self.also(node)

    def also(self, node: GpuNode) -> None:
        """See something else told of a *node* whose plan is what it was."""
        for gpu in node.status.gpus:
            told = self._told.setdefault(gpu.uuid, [])
            if not told or told[-1] != gpu:
                told.append(gpu)

    def bar(self, entry: Assignment) -> bool:
        """Tell whether something may keep a plan's writer from an entry's place."""
        told = self._told.get(entry.gpu, ())
        return not told or any(self._bars(gpu, entry) for gpu in told)

    def _bars(self, gpu: Gpu, entry: Assignment) -> bool:
        return bool(gpu.unhealthy) or any(
            there.profile_id == entry.profile_id or there.placement.mask & entry.placement.mask
            if not there.assignment and not self._ours(gpu.uuid, there)
            # Half made, it would take the vGPU, until its agent has destroyed it.
            else there.assignment and there.vacant and there.profile_id == entry.profile_id
            for there in gpu.instances
        )
