"""Requests over time: what is asked for, when, and how long it stays."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import msgspec

from extender.simulation.chance import Chance
from extender.simulation.fleet import Kind
from extender.simulation.lifetimes import Law


class Demand(msgspec.Struct, frozen=True):
    """Requests in the order in which they come; all three lists are equally long.

    ``times`` and ``lifetimes`` are in one unit, mean lifetimes where the demand is generated;
    ``kinds`` are numbers of the kinds asked for.
    """

    times: list[float]
    kinds: list[int]
    lifetimes: list[float]


class Mixed(msgspec.Struct, frozen=True):
    """The share of each kind, from the arrival ``since`` on."""

    shares: tuple[float, ...]
    since: int = 0


def poisson(
    kinds: Sequence[Kind],
    mixes: Sequence[Mixed],
    lifetime: Law,
    *,
    arrivals: int,
    slices: int,
    load: float,
    seed: int,
) -> Demand:
    """Return Poisson arrivals that would hold *load* of *slices* if none were refused.

    Each request draws the time to it, its kind and its lifetime, always all three: whatever is done
    with it, the next one is the same.
    """
    chance = Chance(seed)
    demand = Demand([], [], [])
    now, upcoming = 0.0, list(mixes)
    bounds: list[float] = []
    rate = 0.0
    for number in range(arrivals):
        if upcoming and upcoming[0].since <= number:
            shares = upcoming.pop(0).shares
            bounds = list(accumulate(shares))[:-1]
            mean = sum(share * kind.size for share, kind in zip(shares, kinds, strict=True))
            rate = load * slices / mean
        now += chance.exponential() / rate
        demand.times.append(now)
        demand.kinds.append(bisect_right(bounds, chance.uniform()))
        demand.lifetimes.append(lifetime(chance))
    return demand


class Recurring(msgspec.Struct, frozen=True):
    """Recorded (kind, lifetime) pairs, arriving so often that they would hold *load* of *slices*.

    Where a few stay a thousand times as long as most, an empty cluster takes longer to reach its
    load than any warm-up lasts. So the demand begins with ``settled`` requests, all at time 0: as
    many as would be there, each found with its chance to be there, and with what is left of its
    lifetime.
    """

    pairs: tuple[tuple[int, float], ...]
    rate: float
    settled: int

    def demand(self, arrivals: int, seed: int) -> Demand:
        """Return the settled requests and then *arrivals* others, each any of the pairs."""
        chance = Chance(seed)
        demand = Demand([], [], [])
        presence = list(accumulate(lifetime for _, lifetime in self.pairs))
        for _ in range(self.settled):
            at = bisect_right(presence, chance.uniform() * presence[-1])
            kind, lifetime = self.pairs[at]
            demand.times.append(0.0)
            demand.kinds.append(kind)
            demand.lifetimes.append(chance.uniform() * lifetime)
        now = 0.0
        for _ in range(arrivals):
            now += chance.exponential() / self.rate
            kind, lifetime = self.pairs[int(chance.uniform() * len(self.pairs))]
            demand.times.append(now)
            demand.kinds.append(kind)
            demand.lifetimes.append(lifetime)
        return demand


def recurring(
    pairs: Sequence[tuple[int, float]], kinds: Sequence[Kind], *, slices: int, load: float
) -> Recurring:
    """Return the demand of which the *pairs* are samples."""
    held = sum(kinds[kind].size * lifetime for kind, lifetime in pairs) / len(pairs)
    rate = load * slices / held
    stay = sum(lifetime for _, lifetime in pairs) / len(pairs)
    return Recurring(tuple(pairs), rate, round(rate * stay))
