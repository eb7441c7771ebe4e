"""What fits if every instance may be moved: the most that any placement could attain."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from extender.simulation.fleet import Fleet, Group, Kind
from extender.simulation.repack import Fits, covering_test

Counts = Sequence[int]
"""Instances of each kind."""


class AtBest:
    """Tells whether GPUs can hold instances of each kind at once; what it was asked, it knows."""

    def __init__(self, groups: Sequence[Group], kinds: Sequence[Kind]) -> None:
        self._there = [at for at, group in enumerate(groups) if group.gpus]
        self._groups = tuple(groups[at] for at in self._there)
        self._kinds = tuple(kinds)
        self._known: dict[tuple[int, ...], bool] = {}
        self._tests: dict[tuple[int, ...], Fits] = {}

    def __call__(self, counts: Counts) -> bool:
        """Answer for so many instances of each kind."""
        key = tuple(counts)
        if key not in self._known:
            self._known[key] = self._decided(key)
        return self._known[key]

    def _decided(self, counts: tuple[int, ...]) -> bool:
        """Decide by the kinds that are asked for: the fewer, the less there is to try."""
        asked = tuple(at for at, count in enumerate(counts) if count)
        if not asked:
            return True
        if not all(any(self._kinds[at].profiles[g] for g in self._there) for at in asked):
            return False
        if asked not in self._tests:
            kinds = [
                msgspec.structs.replace(
                    self._kinds[at],
                    profiles=tuple(self._kinds[at].profiles[g] for g in self._there),
                )
                for at in asked
            ]
            self._tests[asked] = covering_test(Fleet(self._groups), kinds)
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
