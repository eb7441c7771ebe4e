"""The usable GPUs of many nodes, counted by what they come to: thousands are in hundreds of states.

What a state leaves room for is worked out once, and looked up for every GPU that is in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from extender.explain.situation import Judged, Situation
from extender.packing.choose import Bin
from extender.packing.spread import Spread
from extender.snapshot import NodeView
from extender.verbs.verdicts import unsuitable


class Census:
    """The GPUs of the *judged* nodes that take anything new, as they are to the pod.

    GPUs are of a kind if the same fits on them now, and as many instances are there: ``kind_of``
    numbers the kinds, GPU by GPU, node by node; ``gpus`` counts those of each node.
    """

    def __init__(self, situation: Situation, judged: Iterable[Judged]) -> None:
        self.nodes: Sequence[Judged] = [
            each for each in judged if unsuitable(each.view, ()) is None
        ]
        self._kinds: list[Bin] = []
        known: dict[tuple[int, int], dict[object, int]] = {}
        of: list[int] = []
        tables, serves, numbers = None, None, dict[object, int]()
        for each in self.nodes:
            bins = situation.bins(each.view)
            for gpu, bin in zip(each.view.usable, bins, strict=True):
                if bin.serves is not serves or bin.tables is not tables:
                    tables, serves = bin.tables, bin.serves
                    numbers = known.setdefault((id(tables), id(serves)), {})
                key = (bin.occupancy, len(gpu.instances))
                number = numbers.get(key)
                if number is None:
                    number = numbers[key] = len(self._kinds)
                    self._kinds.append(bin)
                of.append(number)
        self.kind_of: NDArray[np.intp] = np.array(of, dtype=np.intp)
        self.gpus = np.array([len(each.view.usable) for each in self.nodes], dtype=np.intp)
        self.first: NDArray[np.intp] = np.cumsum(self.gpus) - self.gpus

    @property
    def kinds(self) -> int:
        """How many kinds there are."""
        return len(self._kinds)

    def takes(self, resource: str, count: int, spread: Spread) -> Iterable[NodeView]:
        """Return the candidates on which so many of a resource would fit now, so *spread*.

        By their room alone. Instances of one profile are all of a size: how many more a GPU takes
        does not depend on how they are put there.
        """
        if not self.nodes:
            return ()
        by_kind = np.array([_at_once(kind, resource) for kind in self._kinds], dtype=np.intp)
        by_gpu = by_kind[self.kind_of]
        match spread:
            case Spread.ANY:
                most = np.add.reduceat(by_gpu, self.first)
            case Spread.SAME:
                most = np.maximum.reduceat(by_gpu, self.first)
            case Spread.DISTINCT:
                most = np.add.reduceat(np.minimum(by_gpu, 1), self.first)
        enough = (self.nodes[at] for at in np.flatnonzero(most >= count).tolist())
        return [each.view for each in enough if each.candidate]

    def free(self, wanted: Iterable[str]) -> tuple[int, int]:
        """Return the free slices where nothing but room is lacking, and the most on one GPU.

        Of GPUs that serve all that is *wanted*.
        """
        gpus = np.bincount(self.kind_of[np.repeat(self._lacking, self.gpus)], minlength=self.kinds)
        resources = frozenset(wanted)
        free = most = 0
        for kind, count in zip(self._kinds, gpus.tolist(), strict=True):
            if count and resources <= kind.serves.keys():
                here = kind.tables.geometry.memory_slices - kind.occupancy.mask.bit_count()
                free, most = free + here * count, max(most, here)
        return free, most

    @cached_property
    def _lacking(self) -> NDArray[np.bool_]:
        return np.array([each.lacks_room for each in self.nodes], dtype=np.bool_)

    @cached_property
    def _order(self) -> NDArray[np.intp]:
        fullness = np.array([each.view.fullness for each in self.nodes], dtype=np.intp)
        return np.lexsort((fullness, ~self._lacking))

    def emptiest(self, count: int) -> Iterator[NodeView]:
        """Yield so many of the nodes that lack nothing but room, the emptiest first."""
        for at in self._order[:count].tolist():
            if self.nodes[at].lacks_room:
                yield self.nodes[at].view

    def some(self, at_most: int, *, of_each: int, first: int) -> NDArray[np.bool_]:
        """Choose GPUs: so many *of each* kind, as far as *at most* so many are chosen in all.

        Nodes that lack nothing but room come before others, emptier ones before fuller ones; the
        *first* few of them are chosen with all their GPUs.
        """
        place = np.empty_like(self._order)
        place[self._order] = np.arange(len(place))
        place_of = np.repeat(place, self.gpus)
        by_kind = np.lexsort((place_of, self.kind_of))
        kinds = self.kind_of[by_kind]
        begins = np.searchsorted(kinds, np.arange(self.kinds))
        rank = np.empty_like(kinds)
        rank[by_kind] = np.arange(len(kinds)) - begins[kinds]
        quota = min(of_each, max(1, at_most // max(1, self.kinds)))
        chosen: NDArray[np.bool_] = (rank < quota) | (place_of < first)
        return chosen


def _at_once(kind: Bin, resource: str) -> int:
    profile = kind.profile(resource)
    return 0 if profile is None else kind.tables.at_once(kind.occupancy, profile)
