"""Could everything be held if every instance might be moved? The reference for fragmentation.

A request that does not fit now, but would after moving others freely, is refused for fragmentation;
any other for want of capacity.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Protocol

from extender.packing.states import Key, Shape, shape
from extender.packing.states import reachable as reachable_states
from extender.packing.tables import tables
from extender.policy import PolicyName
from extender.simulation.fleet import Fleet, Kind
from extender.simulation.solver import covers, shared_out
from nodeagent.api.geometry import Geometry, Occupancy


class Fits(Protocol):
    """Tells whether so many instances of each kind can be held at once.

    ``affordable``: how many questions about one replay it answers in reasonable time.
    """

    affordable: int

    def __call__(self, counts: Sequence[int]) -> bool:
        """Answer for so many instances of each kind."""
        ...


EIGHT_SLICES = (
    Shape(8, (0,)),
    Shape(4, (0,)),
    Shape(4, (0, 4)),
    Shape(2, (0, 2, 4)),
    Shape(2, (0, 2, 4, 6)),
    Shape(1, (0, 1, 2, 3, 4, 5, 6)),
)
"""7g, 4g, 3g, 2g, 1g with double memory, 1g: the one table of placements with a closed form."""


def repack_test(fleet: Fleet, kinds: Sequence[Kind]) -> Fits:
    """Return the test for a fleet: a closed form where there is one, else an exact search."""
    return _closed_form(fleet, kinds) or _Search(fleet, tuple(kinds))


def covering_test(fleet: Fleet, kinds: Sequence[Kind], among: Sequence[Kind]) -> Fits:
    """Return the test for a fleet of any size: what it takes does not grow with the instances.

    The *kinds* are some of those *among* which questions are asked: of all these together it is
    worked out only once what a GPU can hold.
    """
    return _closed_form(fleet, kinds) or _Covering(fleet, tuple(kinds), tuple(among))


def _closed_form(fleet: Fleet, kinds: Sequence[Kind]) -> Fits | None:
    (first, *others) = fleet.groups
    profiles = [kind.profiles[0] for kind in kinds]
    served = [p for p in profiles if p is not None]
    closed = len(served) == len(kinds) and all(
        shape(p) in EIGHT_SLICES and not p.limited for p in served
    )
    if others or not closed or first.geometry.memory_slices != 8:
        return None
    return _ByShape([EIGHT_SLICES.index(shape(p)) for p in served], first.gpus)


class _ByShape:
    """The closed form, for kinds given by their place in :data:`EIGHT_SLICES`."""

    affordable = 100_000

    def __init__(self, columns: Sequence[int], gpus: int) -> None:
        self._columns = columns
        self._gpus = gpus

    def __call__(self, counts: Sequence[int]) -> bool:
        wanted = [0] * len(EIGHT_SLICES)
        for column, count in zip(self._columns, counts, strict=True):
            wanted[column] += count
        return eight_slices_hold(self._gpus, *wanted)


def eight_slices_hold(gpus: int, n7: int, n4: int, n3: int, n2: int, n20: int, n1: int) -> bool:
    """Tell whether GPUs with eight memory slices can hold these, in constant time.

    3g go to right halves (slices 4 to 7) first, for whatever is legal there fits on the left too.
    What is left are pairs of slices: slices 6 and 7 of a right half are a *special* pair, which
    takes one 1g.20gb or one 1g.10gb; a *regular* pair takes a 2g, a 1g.20gb or two 1g.10gb.
    """
    unsplit = gpus - n7
    if unsplit < 0:
        return False
    right = min(n3, unsplit)
    open_left = unsplit - n4 - (n3 - right)
    if open_left < 0:
        return False
    special = unsplit - right
    regular = 2 * open_left + special
    on_special = min(n20, special)
    ones = max(0, n1 - (special - on_special))
    return n2 + (n20 - on_special) + (ones + 1) // 2 <= regular


class _Covering:
    """Count slices; where these would do, solve the covering.

    Kinds that the same profile serves are one to a GPU, however many there are.
    """

    affordable = 200

    def __init__(self, fleet: Fleet, kinds: tuple[Kind, ...], among: tuple[Kind, ...]) -> None:
        self._kinds = kinds
        self._slices = fleet.memory_slices
        self._gpus = [group.gpus for group in fleet.groups]
        ids = [
            sorted({p.id for kind in among if (p := kind.profiles[at]) is not None})
            for at in range(len(fleet.groups))
        ]
        self._contents = [
            contents_when_full(group.geometry, tuple(served))
            for group, served in zip(fleet.groups, ids, strict=True)
        ]
        self._columns = [
            [
                None if p is None else of.index(p.id)
                for of, p in zip(ids, kind.profiles, strict=True)
            ]
            for kind in kinds
        ]

    def __call__(self, counts: Sequence[int]) -> bool:
        least = sum(count * _least(kind) for kind, count in zip(self._kinds, counts, strict=True))
        if least > self._slices:
            return False
        return shared_out(counts, self._columns, self._gpus, self._contents)


class _Search:
    """Count slices; pack greedily, largest first; where these disagree, solve the covering."""

    affordable = 200

    def __init__(self, fleet: Fleet, kinds: tuple[Kind, ...]) -> None:
        self._fleet = fleet
        self._kinds = kinds
        self._largest_first = sorted(range(len(kinds)), key=lambda at: -kinds[at].size)
        self._known: dict[tuple[int, ...], bool] = {}

    def __call__(self, counts: Sequence[int]) -> bool:
        key = tuple(counts)
        if key not in self._known:
            self._known[key] = self._decided(key)
        return self._known[key]

    def _decided(self, counts: tuple[int, ...]) -> bool:
        least = sum(count * _least(kind) for kind, count in zip(self._kinds, counts, strict=True))
        if least > self._fleet.memory_slices:
            return False
        if self._packs_greedily(counts):
            return True
        contents = [
            contents_when_full(group.geometry, _served(self._kinds, at))
            for at, group in enumerate(self._fleet.groups)
        ]
        return covers(counts, [group.gpus for group in self._fleet.groups], contents)

    def _packs_greedily(self, counts: tuple[int, ...]) -> bool:
        bins: Counter[tuple[int, Occupancy]] = Counter(
            {(at, group.geometry.empty): group.gpus for at, group in enumerate(self._fleet.groups)}
        )
        for kind in self._largest_first:
            for _ in range(counts[kind]):
                best: tuple[tuple[int, int], tuple[int, Occupancy], Occupancy] | None = None
                for (at, state), number in bins.items():
                    profile = self._kinds[kind].profiles[at]
                    if not number or profile is None:
                        continue
                    geometry = self._fleet.groups[at].geometry
                    ways = tables(geometry, PolicyName.DEFAULT).options(state, profile)
                    if ways:
                        rank = (ways[0].cost, -state.mask.bit_count())
                        if best is None or rank < best[0]:
                            best = (rank, (at, state), ways[0].after)
                if best is None:
                    return False
                _, used, after = best
                bins[used] -= 1
                bins[used[0], after] += 1
        return True


def _served(kinds: Sequence[Kind], group: int) -> tuple[int | None, ...]:
    return tuple(None if (p := kind.profiles[group]) is None else p.id for kind in kinds)


def _least(kind: Kind) -> int:
    return min(profile.size for profile in kind.profiles if profile is not None)


@functools.lru_cache(maxsize=64)
def contents_when_full(
    geometry: Geometry, served: tuple[int | None, ...]
) -> tuple[tuple[int, ...], ...]:
    """Return what one GPU can hold of each kind, leaving out what is less than another.

    ``served`` is the profile id that serves each kind, None where none does.
    """
    held: dict[Occupancy, set[tuple[int, ...]]] = {geometry.empty: {(0,) * len(served)}}
    found: set[tuple[int, ...]] = set()
    for state in sorted(reachable_states(geometry, Key.OCCUPANCY), key=_taken):
        for content in held.pop(state, ()):
            found.add(content)
            for kind, profile_id in enumerate(served):
                if profile_id is None:
                    continue
                for placement in geometry.legal(state, geometry.by_id[profile_id]):
                    then = geometry.occupied(state, profile_id, placement)
                    more = (*content[:kind], content[kind] + 1, *content[kind + 1 :])
                    held.setdefault(then, set()).add(more)
    # Whatever is held can be held without one of it: so what is less is less by one than another.
    return tuple(sorted(each for each in found if not any(more in found for more in _more(each))))


def _taken(state: Occupancy) -> int:
    return state.mask.bit_count()


def _more(content: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield what is one more of a kind."""
    for at, number in enumerate(content):
        yield (*content[:at], number + 1, *content[at + 1 :])
