"""The judge's part for places on their way out: nobody has them before they are told to be free.

* ``promised twice``: an entry is written where another was taken back, and the agent has not yet
  told that it knows of that and that nothing is there any more.

Everybody can know: an inventory says up to which generation of the plan it answers for, and who has
not seen a plan come about waits until it does for that. So it holds whoever took the other entry
back, and whoever writes. The owner's next pod may be given a place that was held for it sooner: the
agent destroys what is there before it makes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

from nodeagent.api.gpunode import Assignment, GpuNode
from tests.chaos.claims import is_claim


class Releasing(msgspec.Struct, frozen=True):
    """An entry whose pod's place was taken back in the plan of a *generation*."""

    entry: Assignment
    generation: int

    def over(self, node: GpuNode) -> bool:
        """Tell whether the agent has said that nothing of it is there any more.

        Something else may be, on a few of its slices: that keeps nobody from the others.
        """
        return node.status.observed_generation >= self.generation and not any(
            place(self.entry) == (gpu.uuid, each.profile_id, each.start, each.size)
            for gpu in node.status.gpus
            for each in gpu.instances
        )


class Releases:
    """The places that are on their way out, by node.

    One that an agent told to be free stays so: a late word of before may take that one's place.
    *is_next* tells whether an entry may have another's place at once.
    """

    def __init__(self, is_next: Callable[[Assignment, Assignment], bool]) -> None:
        self._is_next = is_next
        self._on: dict[str, tuple[Releasing, ...]] = {}

    def wrote(self, before: GpuNode | None, now: GpuNode) -> Iterator[str]:
        """See a node's plan or inventory written; yield what is wrong about the plan."""
        leaving = tuple(each for each in self._on.get(now.name, ()) if not each.over(now))
        if before is not None and before.metadata.generation != now.metadata.generation:
            left = tuple(Releasing(each, now.metadata.generation) for each in _left(before, now))
            given, leaving = fresh(before, now), (*leaving, *left)
            yield from self._given(given, leaving)
            leaving = tuple(
                each
                for each in leaving
                if not each.over(now) and not self._passed_on(each.entry, given)
            )
        self._on[now.name] = leaving

    def _given(self, entries: Iterable[Assignment], leaving: Iterable[Releasing]) -> Iterator[str]:
        leaving = tuple(leaving)
        for entry in entries:
            for last in (each.entry for each in leaving):
                there = entry.gpu == last.gpu and entry.placement.mask & last.placement.mask
                if there and not is_claim(entry) and not self._is_next(entry, last):
                    yield f"promised twice: {entry.id} where {last.id} is on its way out"

    def _passed_on(self, last: Assignment, entries: Iterable[Assignment]) -> bool:
        """Tell whether its pod, or the next, has that very place: it leaves with that one, then."""
        return any(
            each.pod is not None and place(each) == place(last) and self._is_next(each, last)
            for each in entries
        )

    def forget(self, node: str) -> None:
        """See a node's object deleted: nobody can know of what was taken back in it."""
        self._on.pop(node, None)


def fresh(before: GpuNode | None, now: GpuNode) -> tuple[Assignment, ...]:
    """Return the entries that are new, or have another pod or place than they had.

    One that has lost its pod is held where it was, which is nothing new.
    """
    known = {each.id: each for each in before.spec.assignments} if before else {}
    return tuple(
        each
        for each in now.spec.assignments
        if (last := known.get(each.id)) is None
        or place(last) != place(each)
        or each.pod not in (None, last.pod)
    )


def place(entry: Assignment) -> tuple[str, int, int, int]:
    """Return where an entry is: its GPU, profile, first memory slice, and how many."""
    return entry.gpu, entry.profile_id, entry.start, entry.size


def _left(before: GpuNode, now: GpuNode) -> Iterator[Assignment]:
    kept = {each.id: each for each in now.spec.assignments}
    for last in before.spec.assignments:
        entry = kept.get(last.id)
        if last.pod and (entry is None or entry.pod != last.pod or place(entry) != place(last)):
            yield last
