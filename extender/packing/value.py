"""What a GPU's occupancy is worth to the future, as an integer.

A policy is a value function V; a placement costs ``V(before) - V(after)``. Ties are a level of
their own, never mixed into V.
"""

from __future__ import annotations

from collections.abc import Callable

from extender.policy import PolicyName
from nodeagent.api.geometry import Geometry, Occupancy

ValueFunction = Callable[[Geometry, Occupancy], int]


def unusable_slices(geometry: Geometry, occupancy: Occupancy) -> int:
    """Return minus the free slices no legal placement covers, summed over profiles (FGU).

    Profiles with the same placements count once (``1g.10gb`` and ``1g.10gb+me``), all with the same
    weight: a free slice that only small profiles can still reach is worth little.
    """
    free = geometry.full_mask & ~occupancy.mask
    unusable = 0
    for size, starts in {(profile.size, profile.starts) for profile in geometry.profiles}:
        window = (1 << size) - 1
        usable = 0
        for start in starts:
            if not (window << start) & occupancy.mask:
                usable |= window << start
        unusable += (free & ~usable).bit_count()
    return -unusable


def indifferent(geometry: Geometry, occupancy: Occupancy) -> int:
    """Every occupancy is worth the same (first fit)."""
    return 0


VALUES: dict[PolicyName, ValueFunction] = {
    PolicyName.DEFAULT: unusable_slices,
    PolicyName.FIRST_FIT: indifferent,
}
