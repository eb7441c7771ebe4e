"""How long each pod stays once it has its places, as far as a record tells."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from extender.replay.recorded import Outcome, Recorded
from extender.request import Wanted


class Stay(msgspec.Struct, frozen=True, gc=False):
    """A pod's time. ``lasts`` is in seconds from when it has its places, infinite for all time.

    A pod that had its places at ``placed_at``, in seconds, left at ``left_at``: told apart, so that
    what happens at the recorded time ends at the recorded time, to the last bit. Its slices were
    free at ``freed_at``; as much later than it leaves they are at any other time. ``waits_until``
    is when one gave up that never was placed in the record; infinite: it would have waited.
    """

    lasts: float
    placed_at: float | None = None
    left_at: float = math.inf
    waits_until: float = math.inf
    known: bool = True
    freed_at: float = math.inf

    def ends(self, since: float) -> float:
        """Return when a pod leaves that has its places *since* a time."""
        return self.left_at if since == self.placed_at else since + self.lasts

    def frees(self, since: float, ends: float) -> float:
        """Return when the slices are free of a pod that had its places *since* then and *ends*."""
        if since == self.placed_at:
            return self.freed_at
        return ends + (self.freed_at - self.left_at if math.isfinite(self.freed_at) else 0.0)


def lasting(lifetimes: Iterable[float]) -> tuple[Stay, ...]:
    """Return the stays of pods of which it is known how long they stay, placed or not."""
    return tuple(map(Stay, lifetimes))


def stays(recorded: Recorded) -> tuple[Stay, ...]:
    """Return the stay of each arrival, in their order.

    Of a pod that never was placed in the record it is not known. It is taken to be as long as of
    those that asked for the same and did leave, in the median; without any, it stays for ever.
    """
    left = {each.uid: each.at for each in recorded.departures}
    freed = {each.uid: each.freed for each in recorded.departures if each.freed is not None}
    placed: dict[str, float] = {}
    for outcome in recorded.outcomes:
        if outcome.places:
            placed.setdefault(outcome.uid, outcome.at)
    usual = _usual(recorded, placed, left)
    found = []
    for each in recorded.arrivals:
        since, until = placed.get(each.uid), left.get(each.uid, math.inf)
        if since is None:
            lasts = usual.get(tuple(sorted(each.wanted)), math.inf)
            found.append(Stay(lasts, waits_until=until, known=False))
        else:
            found.append(Stay(until - since, since, until, freed_at=freed.get(each.uid, until)))
    return tuple(found)


def _usual(
    recorded: Recorded, placed: Mapping[str, float], left: Mapping[str, float]
) -> Mapping[Wanted, float]:
    lengths: dict[Wanted, list[float]] = {}
    for each in recorded.arrivals:
        if each.uid in placed and each.uid in left:
            lasted = left[each.uid] - placed[each.uid]
            lengths.setdefault(tuple(sorted(each.wanted)), []).append(lasted)
    return {wanted: statistics.median(found) for wanted, found in lengths.items()}


def first(outcomes: Sequence[Outcome]) -> Mapping[str, Outcome]:
    """Return what was decided for each pod when it was first asked about, by UID."""
    found: dict[str, Outcome] = {}
    for each in outcomes:
        found.setdefault(each.uid, each)
    return found
