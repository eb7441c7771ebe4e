"""When slices are free again: their pod has left the plan, and the agent has made its instance go.

As decisions see it: an agent's report counts that answers for the plan without the pod. What is
held for the pod's owner meanwhile is not free, either.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from nodeagent.api.gpunode import Assignment, GpuNode


class _Leaving(msgspec.Struct, frozen=True):
    """What a pod had on a node, and the generation of the plan that has it no more."""

    entries: tuple[Assignment, ...]
    generation: int


class Releases:
    """Follows the plans and reports of nodes."""

    def __init__(self) -> None:
        self._had: dict[str, dict[str, tuple[Assignment, ...]]] = {}
        self._leaving: dict[str, dict[str, _Leaving]] = {}

    def reported(self, node: GpuNode) -> Iterator[str]:
        """Take a node in as it is now; yield the UIDs of pods whose slices there are free again."""
        has: dict[str, tuple[Assignment, ...]] = {}
        for each in node.spec.assignments:
            if each.pod is not None:
                has[each.pod.uid] = (*has.get(each.pod.uid, ()), each)
        leaving = self._leaving.setdefault(node.name, {})
        for uid, entries in self._had.get(node.name, {}).items():
            if uid not in has:
                leaving[uid] = _Leaving(entries, node.metadata.generation)
        self._had[node.name] = has
        for uid, left in tuple(leaving.items()):
            if node.status.observed_generation >= left.generation and not _held(node, left.entries):
                del leaving[uid]
                yield uid

    def gone(self, name: str) -> Iterator[str]:
        """Take in that a node is there no more: nothing of it is waited for."""
        had = self._had.pop(name, {})
        yield from {**had, **self._leaving.pop(name, {})}

    def owed(self) -> Iterator[str]:
        """Yield the UIDs of pods that have slices still."""
        for had in self._had.values():
            yield from had
        for each in self._leaving.values():
            yield from each


def _held(node: GpuNode, entries: Iterable[Assignment]) -> bool:
    """Tell whether an instance is still there, or a place is held for whoever comes again."""
    for entry in entries:
        plan = [each for each in node.spec.assignments if each.gpu == entry.gpu]
        gpus = [gpu for gpu in node.status.gpus if gpu.uuid == entry.gpu]
        if any(entry.placement.mask & each.placement.mask for each in plan if each.pod):
            continue  # somebody has it already
        there = [each.placement.mask for gpu in gpus for each in gpu.instances]
        held = [each.placement.mask for each in plan]
        if any(entry.placement.mask & each for each in (*there, *held)):
            return True
    return False
