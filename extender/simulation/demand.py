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


def resampled(
    pairs: Sequence[tuple[int, float]],
    kinds: Sequence[Kind],
    *,
    arrivals: int,
    slices: int,
    load: float,
    seed: int,
) -> Demand:
    """Return Poisson arrivals that each draw one of the recorded (kind, lifetime) pairs."""
    chance = Chance(seed)
    demand = Demand([], [], [])
    held = sum(kinds[kind].size * lifetime for kind, lifetime in pairs) / len(pairs)
    now, rate = 0.0, load * slices / held
    for _ in range(arrivals):
        now += chance.exponential() / rate
        kind, lifetime = pairs[int(chance.uniform() * len(pairs))]
        demand.times.append(now)
        demand.kinds.append(kind)
        demand.lifetimes.append(lifetime)
    return demand
