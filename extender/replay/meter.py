"""How full and how broken up the GPUs are, at every moment of a replay."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import zip_longest

import msgspec
import numpy as np
from numpy.typing import NDArray

from extender.packing.choose import Bin
from extender.packing.value import unusable_slices
from extender.snapshot import NodeView

MEASURES = 5
"""Fields of :class:`Averages`."""

_Levels = tuple[int, ...]

NONE: _Levels = (0,) * MEASURES
NOTHING: tuple[Sequence[Bin], _Levels] = (), NONE
"""The GPUs and levels of a node that is not there."""


class Averages(msgspec.Struct, frozen=True, rename="camel"):
    """Means over a stretch of time, of the GPUs that take something new.

    ``gpus``: how many there are; ``active``: how many hold anything. ``used``: memory slices that
    are taken. ``unusable``: free slices of GPUs in use that a shape cannot use, summed over shapes
    (FGU, as :mod:`extender.simulation.measures` has it). ``whole``: GPUs that are empty, so that a
    whole one could be had.
    """

    gpus: float
    active: float
    used: float
    unusable: float
    whole: float


class Meter:
    """Watches a replay's nodes; ``now`` is the time of what it is shown, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self._nodes: dict[str, tuple[Sequence[Bin], _Levels]] = {}
        self._total = list(NONE)
        self._times = array("d")
        self._levels: tuple[array[int], ...] = tuple(array("q") for _ in range(MEASURES))
        self._shares: dict[tuple[str, int], _Levels] = {}

    def look_at(self, view: NodeView) -> None:
        """Take in how a node is from now on."""
        had, before = self._nodes.get(view.name, NOTHING)
        has = view.bins() if view.takes_new else ()
        now = self._measured(had, before, has)
        self._nodes[view.name] = has, now
        if now == before:
            return
        for at in range(MEASURES):
            self._total[at] += now[at] - before[at]
        if self._times and self._times[-1] == self.now:
            for level, total in zip(self._levels, self._total, strict=True):
                level[-1] = total
        else:
            self._times.append(self.now)
            for level, total in zip(self._levels, self._total, strict=True):
                level.append(total)

    def _measured(self, had: Sequence[Bin], before: _Levels, has: Sequence[Bin]) -> _Levels:
        """Return the levels of a node by the GPUs it *has*, where they were others *before*.

        Nearly always all GPUs but one are the very same.
        """
        if len(had) != len(has):
            had, before = NOTHING
        now = before
        for was, bin in zip_longest(had, has):
            if was is not bin:
                less = NONE if was is None else self._share(was)
                columns = zip(now, less, self._share(bin), strict=True)
                now = tuple([level - gone + come for level, gone, come in columns])
        return now

    def _share(self, bin: Bin) -> _Levels:
        """Return what one GPU adds to its node's levels."""
        geometry, occupancy = bin.tables.geometry, bin.occupancy
        key = geometry.hash, occupancy.mask
        known = self._shares.get(key)
        if known is None:
            lost, used = -unusable_slices(geometry, occupancy), occupancy.mask.bit_count()
            known = self._shares[key] = (1, 1, used, lost, 0) if used else (1, 0, 0, 0, 1)
        return known

    def begin_anew(self) -> None:
        """Forget how the nodes were before ``now``; how they are stays."""
        del self._times[:]
        self._times.append(self.now)
        for level, total in zip(self._levels, self._total, strict=True):
            del level[:]
            level.append(total)

    def between(self, edges: Sequence[float]) -> tuple[Averages, ...]:
        """Return the means in each stretch between *edges*, which ascend: exact integrals."""
        at = np.asarray(edges, np.float64)
        if not self._times:
            return (Averages(*(0.0,) * MEASURES),) * (len(at) - 1)
        columns = [_means(at, np.array(self._times), np.array(level)) for level in self._levels]
        return tuple(Averages(*map(float, row)) for row in np.stack(columns, axis=1))


def _means(
    edges: NDArray[np.float64], times: NDArray[np.float64], level: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the mean of a level, constant from each of the *times* on, between the *edges*.

    Its integral is linear between changes; before the first it is 0.
    """
    until = max(float(edges[-1]), float(times[-1]))
    lasts = np.diff(np.append(times, until))
    integral = np.concatenate(([0.0], np.cumsum(level * lasts)))
    at_edges = np.interp(edges, np.append(times, until), integral)
    return np.asarray(np.diff(at_edges) / np.diff(edges), np.float64)
