"""The pods that wait, and whose turn it is when they are too many for one plan."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import msgspec
from propcache.api import cached_property

from extender.request import Request


class Waiting(msgspec.Struct, frozen=True, dict=True):
    """A pod that was filtered and has no place: ``candidates`` are its last filter's.

    They are best one object for all pods that have the same: then nobody looks into them twice.
    ``since`` is its first filter, on the caller's monotonic clock; ``turn`` is the number of the
    last plan that found no place for it, 0 if none has looked for one.
    """

    request: Request
    candidates: frozenset[str] | tuple[str, ...]
    since: float
    turn: int = 0

    @cached_property
    def nodes(self) -> frozenset[str]:
        """The candidates as a set: for whoever plans, most pods are placed before."""
        return frozenset(self.candidates)

    @property
    def uid(self) -> str:
        """The pod's UID."""
        return self.request.pod.uid


def bounded(waiting: Sequence[Waiting], pods: int) -> Sequence[Waiting]:
    """Return at most *pods* of them: by priority, then by arrival; never a part of a gang.

    If they are more, those of one priority take turns: first come whom no plan has looked at yet.
    """
    together: dict[object, list[Waiting]] = defaultdict(list)
    for each in sorted(waiting, key=_precedence):
        together[each.request.gang or each.uid].append(each)
    if len(waiting) <= pods:
        return tuple(each for group in together.values() for each in group)
    turns = sorted(together.values(), key=_turn)
    chosen = {each.uid for each in _whole(turns, pods)}
    return tuple(each for group in together.values() for each in group if each.uid in chosen)


def _precedence(waiting: Waiting) -> tuple[int, float]:
    return -waiting.request.priority, waiting.since


def _turn(group: Sequence[Waiting]) -> tuple[int, int]:
    """Return what a gang or a pod is sorted by; a gang with a new member has not had its turn."""
    return -group[0].request.priority, min(each.turn for each in group)


def _whole(together: Iterable[Sequence[Waiting]], pods: int) -> Iterator[Waiting]:
    left = pods
    for group in together:
        if len(group) <= left:
            left -= len(group)
            yield from group
