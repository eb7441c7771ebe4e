"""The sets of pods in the way of a request on one node, found from where it could lie there.

Of each legal arrangement on the GPUs, the pods that overlap it, and whoever else the profiles'
limits and the tenants' rules keep from staying beside it. No set that suffices lacks one of these.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from extender.claims import claims
from extender.ledger import Ledger
from extender.packing.choose import Bin
from extender.packing.spread import Spread
from extender.policy.bounds import Bounds
from extender.policy.rules import Apart
from extender.request import Request, Wanted
from extender.snapshot import NodeView, Taken, taken_by
from extender.verbs.permitted import shut
from extender.verbs.preempt import without
from nodeagent.api.geometry import Placement, Profile

KEPT = 32
"""Over the square of how many vGPUs a pod wants: the sets kept for each part of them while others
are placed, two at least. One vGPU has no parts; of two or three the cheapest sets are found."""


class _Seat(NamedTuple):
    """What a pod that may go has on a GPU."""

    uid: str
    taken: Taken


class Search:
    """The sets of pods (by UID) without which a request would lie on the GPUs of a node.

    ``freed`` are the slices that come free without anybody's going.
    """

    def __init__(
        self,
        view: NodeView,
        ledger: Ledger,
        request: Request,
        units: Collection[str],
        cost: Callable[[frozenset[str]], tuple[float, ...]],
        allowed: Callable[[frozenset[str]], bool],
        *,
        waits: bool,
    ) -> None:
        self._bins = view.bins()
        self._wanted = request.wanted
        self._spread = request.spread
        self._kept = max(2, KEPT // len(request.wanted) ** 2)
        self._cost = cost
        self._allowed = allowed
        self._seats: dict[str, list[_Seat]] = {}
        self._fixed: dict[str, list[Taken]] = {}
        stays, freed = _staying(view), set[Taken]()
        holders = {taken_by(e): uid for uid in view.pods for e in view.assignments_of(uid)}
        own = view.kept_for(request.owner)
        for taken in view.taken:
            uid = holders.get(taken, "")
            if taken in own:
                continue
            if taken in stays or (uid and uid not in units):
                self._fixed.setdefault(taken.gpu, []).append(taken)
            elif uid:
                self._seats.setdefault(taken.gpu, []).append(_Seat(uid, taken))
            elif waits:
                freed.add(taken)
            else:
                self._fixed.setdefault(taken.gpu, []).append(taken)
        for taken in ledger.assumed_on(view.name, besides=request.pod.uid):
            self._fixed.setdefault(taken.gpu, []).append(taken)
        self.freed = frozenset(freed)
        self._closed, self._apart = self._kept_apart(view, request.bounds)

    def _kept_apart(
        self, view: NodeView, bounds: Bounds | None
    ) -> tuple[frozenset[str], frozenset[str]]:
        """Return the GPUs that stay another tenant's, and the pods that others' GPUs are shut by.

        The pods are named by UID; whoever is not to share a GPU with them has it without them.
        """
        if bounds is None or not bounds.terms.isolating:
            return frozenset(), frozenset()
        seats = [seat for here in self._seats.values() for seat in here]
        leaving = self.freed.union(seat.taken for seat in seats)
        whose = {
            uid: e.pod.namespace for uid in view.pods for e in view.assignments_of(uid) if e.pod
        }
        apart = (
            seat.uid for seat in seats if bounds.terms.apart(whose[seat.uid]) is not Apart.NOTHING
        )
        return shut(without(view, leaving), bounds), frozenset(apart)

    def sufficient(self) -> Collection[frozenset[str]]:
        """Return the sets that suffice; each that does contains one of them."""
        left: dict[Wanted, set[frozenset[str]]] = {self._wanted: {frozenset()}}
        done = set[frozenset[str]]()
        for bin in self._bins:
            if bin.uuid in self._closed:
                continue
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
        fixed = self._fixed.get(bin.uuid, ())
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
        seats = self._seats.get(bin.uuid, ())
        mask = functools.reduce(lambda mask, each: mask | each[2].mask, placed, 0)
        gone = {s.uid for s in seats if s.taken.placement.mask & mask or s.uid in self._apart}
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


def _staying(view: NodeView) -> frozenset[Taken]:
    """Return what does not go with any pod: reserved, waited for, foreign, or not as planned."""
    ids = {each.id for each in view.node.spec.assignments}
    planned = {taken_by(each) for each in view.node.spec.assignments if each.pod is not None}
    staying = {taken_by(each) for each in (*view.reservations, *claims(view))} - {
        taken_by(each) for each in view.reservations if each.id in view.lapsed
    }
    for gpu in view.node.status.gpus:
        for each in gpu.instances:
            taken = Taken(gpu.uuid, each.profile_id, each.placement)
            ours = each.assignment and each.assignment not in ids and each.holder is None
            if taken not in planned and (not ours or each.standing):
                staying.add(taken)
    return frozenset(staying)
