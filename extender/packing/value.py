"""What a GPU's state is worth to the future, as an integer.

Weighted sums are rounded to millionths of a slice. Ties are a level of their own, never mixed into
the value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from extender.packing.fragmentation import blocked_windows, capability, unusable
from extender.packing.states import Shape, shape, shapes
from extender.policy import Shares
from nodeagent.api.geometry import Geometry, Occupancy

ValueFunction = Callable[[Geometry, Occupancy], int]

MILLIONTHS = 1_000_000


def unusable_slices(geometry: Geometry, occupancy: Occupancy) -> int:
    """Return minus the free slices no legal placement covers, summed over shapes (FGU).

    All shapes weigh the same: a free slice that only small profiles can still reach is worth
    little.
    """
    return -sum(count for _, count in unusable(geometry, occupancy.mask))


def blocked(geometry: Geometry, occupancy: Occupancy) -> int:
    """Return minus MFI's fragmentation, windows counting as blocked where any of them is taken."""
    return -blocked_windows(geometry, occupancy.mask)


def partly_blocked(geometry: Geometry, occupancy: Occupancy) -> int:
    """Return minus MFI's fragmentation, fully taken windows counting as not blocked."""
    return -blocked_windows(geometry, occupancy.mask, partly=True)


def placements_left(geometry: Geometry, occupancy: Occupancy) -> int:
    """Return how many placements of any shape are still legal (CC)."""
    return sum(count for _, count in capability(geometry, occupancy.mask))


def indifferent(geometry: Geometry, occupancy: Occupancy) -> int:
    """Every state is worth the same (first fit)."""
    return 0


def expected_placements_left(demand: Shares) -> ValueFunction:
    """Return the value that counts legal placements, each by its share of the demand (ECC)."""

    def value(geometry: Geometry, occupancy: Occupancy) -> int:
        share = by_shape(demand, geometry)
        left = capability(geometry, occupancy.mask)
        return round(MILLIONTHS * sum(share[each] * count for each, count in left))

    return value


def demanded_unusable_slices(demand: Shares) -> ValueFunction:
    """Return FGD on masks: minus the free slices a shape cannot use, by its share of the demand."""

    def value(geometry: Geometry, occupancy: Occupancy) -> int:
        share = by_shape(demand, geometry)
        lost = unusable(geometry, occupancy.mask)
        return -round(MILLIONTHS * sum(share[each] * count for each, count in lost))

    return value


def demanded_placements(demand: Shares) -> ValueFunction:
    """Return the value that weighs each shape's part of legal placements by demanded slices."""

    def value(geometry: Geometry, occupancy: Occupancy) -> int:
        share = by_shape(demand, geometry)
        left = capability(geometry, occupancy.mask)
        return round(
            MILLIONTHS * sum(share[s] * s.size * count / len(s.starts) for s, count in left)
        )

    return value


def by_shape(demand: Shares, geometry: Geometry) -> Mapping[Shape, float]:
    """Return the share of the demand for each shape; equal ones where none of it is known here."""
    known = shapes(geometry)
    share = dict.fromkeys(known, 0.0)
    named = dict(demand)
    for profile in geometry.profiles:
        share[shape(profile)] += named.get(profile.name, 0.0)
    total = sum(share.values())
    if total <= 0:
        return dict.fromkeys(known, 1 / len(known))
    return {each: amount / total for each, amount in share.items()}
