"""What fits if every instance may be moved: the most that any placement could attain."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from extender.simulation.fleet import Fleet, Group, Kind
from extender.simulation.repack import Fits, covering_test

Counts = Sequence[int]
"""Instances of each kind."""


class AtBest:
    """Tells whether GPUs can hold instances of each kind at once.

    Less than what fits does too, and more than what does not does not: so it solves no more than it
    has to.
    """

    def __init__(self, groups: Sequence[Group], kinds: Sequence[Kind]) -> None:
        there = [at for at, group in enumerate(groups) if group.gpus]
        self._fleet = Fleet(tuple(groups[at] for at in there))
        self._kinds = tuple(
            Kind(kind.name, tuple(kind.profiles[at] for at in there)) for kind in kinds
        )
        self._fit: NDArray[np.int64] = np.empty((0, len(kinds)), np.int64)
        self._unfit: NDArray[np.int64] = np.empty((0, len(kinds)), np.int64)
        self._tests: dict[tuple[int, ...], Fits] = {}

    def __call__(self, counts: Counts) -> bool:
        """Answer for so many instances of each kind."""
        wanted = np.asarray(counts, np.int64)
        if (self._fit >= wanted).all(axis=1).any():
            return True
        if (self._unfit <= wanted).all(axis=1).any():
            return False
        fits = self._decided(counts)
        if fits:
            self._fit = np.vstack((self._fit, wanted))
        else:
            self._unfit = np.vstack((self._unfit, wanted))
        return fits

    def _decided(self, counts: Counts) -> bool:
        """Decide by the kinds that are asked for: of few kinds there is a closed form."""
        asked = tuple(at for at, count in enumerate(counts) if count)
        if not asked:
            return True
        if not all(any(self._kinds[at].profiles) for at in asked):
            return False
        if asked not in self._tests:
            kinds = [self._kinds[at] for at in asked]
            self._tests[asked] = covering_test(self._fleet, kinds, self._kinds)
        return self._tests[asked]([counts[at] for at in asked])


def most(fits: Callable[[int], bool], limit: int) -> int:
    """Return the largest number up to *limit* that fits; what is more than what does not, does not.

    -1 where not even nothing fits.
    """
    low, high = -1, limit + 1
    step = 1
    while low + step < high:
        if fits(low + step):
            low += step
            step *= 2
        else:
            high = low + step
            break
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low


def fewest_gpus(group: Group, kinds: Sequence[Kind], counts: Counts) -> int | None:
    """Return how many GPUs of a group's model alone hold *counts*, None if no number does.

    ``kinds`` have the group's profile alone. Every instance fits a GPU of its own, so that there
    are never more than instances.
    """
    if any(count and kind.profiles[0] is None for kind, count in zip(kinds, counts, strict=True)):
        return None

    def too_few(gpus: int) -> bool:
        return not AtBest((msgspec.structs.replace(group, gpus=gpus),), kinds)(counts)

    return most(too_few, sum(counts)) + 1
