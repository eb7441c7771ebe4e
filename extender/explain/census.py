"""The usable GPUs of many nodes, counted by what they come to: thousands are in hundreds of states.

What a state leaves room for is worked out once, and looked up for every GPU that is in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from extender.explain.situation import Situation
from extender.packing.choose import Bin
from extender.packing.spread import Spread
from extender.snapshot import NodeView
from extender.verbs.verdicts import unsuitable


class Census:
    """The GPUs of *candidates*, as they are to the pod of a *situation*; its own places are free.

    ``views`` are those that take anything new, ``standing`` those where devices stand for whoever
    comes.
    """

    def __init__(self, situation: Situation, candidates: Sequence[NodeView]) -> None:
        self.views = [view for view in candidates if unsuitable(view, ()) is None]
        self.standing = [view for view in candidates if view.standing]
        self._kinds: list[Bin] = []
        numbers: dict[object, int] = {}
        of: list[int] = []
        for view in self.views:
            for bin in situation.bins(view):
                key = (id(bin.tables), id(bin.serves), bin.occupancy)
                number = numbers.get(key)
                if number is None:
                    number = numbers[key] = len(self._kinds)
                    self._kinds.append(bin)
                of.append(number)
        self._of: NDArray[np.intp] = np.array(of, dtype=np.intp)
        self._gpus = np.array([len(view.usable) for view in self.views], dtype=np.intp)
        self._first = np.cumsum(self._gpus) - self._gpus

    def takes(self, resource: str, count: int, spread: Spread) -> Iterable[NodeView]:
        """Return the views on which so many of a resource would fit now, so *spread*.

        By their room alone; places that one GPU has for a single profile do not depend on how they
        are taken, for they are all of a size.
        """
        if not self.views:
            return ()
        by_kind = np.array([_at_once(kind, resource) for kind in self._kinds], dtype=np.intp)
        by_gpu = by_kind[self._of]
        match spread:
            case Spread.ANY:
                most = np.add.reduceat(by_gpu, self._first)
            case Spread.SAME:
                most = np.maximum.reduceat(by_gpu, self._first)
            case Spread.DISTINCT:
                most = np.add.reduceat(np.minimum(by_gpu, 1), self._first)
        return [self.views[at] for at in np.flatnonzero(most >= count)]

    def free(self, wanted: Iterable[str], among: Iterable[NodeView]) -> tuple[int, int]:
        """Return the free slices of *among*'s GPUs that serve all of *wanted*; the most on one."""
        names = {view.name for view in among}
        nodes = np.array([view.name in names for view in self.views], dtype=np.bool_)
        gpus = np.bincount(self._of[np.repeat(nodes, self._gpus)], minlength=len(self._kinds))
        resources = frozenset(wanted)
        free = most = 0
        for kind, count in zip(self._kinds, gpus.tolist(), strict=True):
            if count and resources <= kind.serves.keys():
                here = kind.tables.geometry.memory_slices - kind.occupancy.mask.bit_count()
                free, most = free + here * count, max(most, here)
        return free, most


def _at_once(kind: Bin, resource: str) -> int:
    profile = kind.profile(resource)
    return 0 if profile is None else kind.tables.at_once(kind.occupancy, profile)
