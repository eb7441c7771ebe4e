"""The sets of pods in the way of a request on one node, found from where it could lie there.

Of each legal arrangement on the GPUs, the pods that overlap it, and whoever else the profiles'
limits and the tenants' rules keep from staying beside it. No set that suffices lacks one of these.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from extender.packing.choose import Bin
from extender.packing.spread import Spread
from extender.request import Request, Wanted
from extender.snapshot import Taken
from extender.verbs.ground import Ground
from nodeagent.api.geometry import Placement, Profile

KEPT = 32
"""Over the square of how many vGPUs a pod wants: the sets kept for each part of them while others
are placed, two at least. One vGPU has no parts; of two or three the cheapest sets are found."""


class Search:
    """The sets of pods (by UID) without which a request would lie on the GPUs of a node.

    *cost* tells what it costs that some go, and whether they are *allowed* to.
    """

    def __init__(
        self,
        ground: Ground,
        request: Request,
        cost: Callable[[frozenset[str]], tuple[float, ...]],
        allowed: Callable[[frozenset[str]], bool],
    ) -> None:
        self._ground = ground
        self._wanted = request.wanted
        self._spread = request.spread
        self._kept = max(2, KEPT // len(request.wanted) ** 2)
        self._cost = cost
        self._allowed = allowed

    def sufficient(self) -> Collection[frozenset[str]]:
        """Return the sets that suffice; each that does contains one of them."""
        left: dict[Wanted, set[frozenset[str]]] = {self._wanted: {frozenset()}}
        done = set[frozenset[str]]()
        for bin in self._ground.bins:
            found: dict[Wanted, set[frozenset[str]]] = {
                rest: set(sets) for rest, sets in left.items() if rest
            }
            for here, options in self._on(bin).items():
                for rest, sets in left.items():
                    after = _less(rest, here)
                    if after is not None:
                        joined = {one | other for one in sets for other in options}
                        found.setdefault(after, set()).update(filter(self._allowed, joined))
            done |= found.pop((), set())
            if len(self._wanted) > 1 and self._spread is not Spread.SAME:
                left = {rest: self._fewest(sets) for rest, sets in found.items()}
        return self._fewest(done) if len(self._wanted) > 1 else done

    def _fewest(self, sets: Collection[frozenset[str]]) -> set[frozenset[str]]:
        """Leave out what contains another set, and what is dear where there are many."""
        kept: list[frozenset[str]] = []
        for each in sorted(sets, key=lambda each: (self._cost(each), len(each), sorted(each))):
            if not any(other <= each for other in kept):
                kept.append(each)
                if len(kept) == self._kept:
                    break
        return set(kept)

    def _on(self, bin: Bin) -> Mapping[Wanted, set[frozenset[str]]]:
        """Return without whom each part of what is wanted would lie on a GPU."""
        fixed = self._ground.fixed.get(bin.uuid, ())
        blocked = functools.reduce(lambda mask, each: mask | each.placement.mask, fixed, 0)
        found: dict[Wanted, set[frozenset[str]]] = {}
        for placed in _arrangements(bin, self._wanted, blocked, self._most_on_one):
            here = tuple(name for name, _, _ in placed)
            if self._spread is Spread.SAME and here != self._wanted:
                continue
            sets = filter(self._allowed, self._without(bin, fixed, placed))
            found.setdefault(here, set()).update(sets)
        if len(self._wanted) == 1:
            return found
        return {here: self._fewest(sets) for here, sets in found.items()}

    @property
    def _most_on_one(self) -> int:
        return 1 if self._spread is Spread.DISTINCT else len(self._wanted)

    def _without(
        self, bin: Bin, fixed: Collection[Taken], placed: Sequence[_Placed]
    ) -> Iterator[frozenset[str]]:
        """Yield the sets of pods in the way of an arrangement on a GPU."""
        seats = self._ground.seats.get(bin.uuid, ())
        mask = functools.reduce(lambda mask, each: mask | each[2].mask, placed, 0)
        gone = {
            s.uid for s in seats if s.taken.placement.mask & mask or s.uid in self._ground.apart
        }
        stay = [seat for seat in seats if seat.uid not in gone]
        geometry = bin.tables.geometry
        more: list[list[tuple[str, ...]]] = []
        for profile_id in geometry.limited:  # of which there may be but so many, such as one +me
            alike = sorted({seat.uid for seat in stay if seat.taken.profile_id == profile_id})
            count = Counter(profile.id for _, profile, _ in placed)[profile_id] + sum(
                each.profile_id == profile_id for each in (*fixed, *(seat.taken for seat in stay))
            )
            over = count - geometry.by_id[profile_id].max_instances
            if over > 0:
                more.append(list(itertools.combinations(alike, over)))
        for besides in itertools.product(*more):
            yield frozenset(gone.union(*besides))


_Placed = tuple[str, Profile, Placement]
"""What is wanted, the profile that serves it, and where."""


def _arrangements(
    bin: Bin, wanted: Wanted, blocked: int, most: int
) -> Iterator[tuple[_Placed, ...]]:
    """Yield every way in which at least one and at *most* so many of *wanted* lie on a GPU.

    What is wanted is sorted; of equals, the first have the lower places.
    """

    def further(at: int, placed: tuple[_Placed, ...], mask: int) -> Iterator[tuple[_Placed, ...]]:
        if at == len(wanted) or len(placed) == most:
            if placed:
                yield placed
            return
        others = next((i for i in range(at, len(wanted)) if wanted[i] != wanted[at]), len(wanted))
        yield from further(others, placed, mask)
        profile = bin.profile(wanted[at])
        for placement in () if profile is None else profile.placements:
            after_its_equal = not placed or placed[-1][0] != wanted[at] or placed[-1][2] < placement
            if not placement.mask & mask and after_its_equal:
                assert profile is not None  # or it had no placements
                now = (*placed, (wanted[at], profile, placement))
                yield from further(at + 1, now, mask | placement.mask)

    return further(0, (), blocked)


def _less(rest: Wanted, here: Wanted) -> Wanted | None:
    """Return what is left to be placed, None if *here* is not a part of it."""
    left = Counter(rest)
    left.subtract(here)
    if any(count < 0 for count in left.values()):
        return None
    return tuple(sorted(left.elements()))
