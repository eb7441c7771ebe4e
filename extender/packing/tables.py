"""Scores as tables: for each occupancy and profile, the legal placements and what each costs.

A MIG GPU has a few hundred distinguishable occupancies, so every score is looked up. Entries are
computed when first asked for; tables are shared by all GPUs of the same geometry.
"""

from __future__ import annotations

import functools

import msgspec

from extender.packing.value import VALUES
from extender.policy import PolicyName
from nodeagent.api.geometry import Geometry, Occupancy, Placement, Profile


class Option(msgspec.Struct, frozen=True):
    """One legal placement, what it costs, and what the GPU's occupancy would be after it."""

    cost: int
    placement: Placement
    after: Occupancy


class Tables:
    """All placements on GPUs of one geometry under one policy."""

    def __init__(self, geometry: Geometry, policy: PolicyName) -> None:
        self.geometry = geometry
        self.policy = policy
        self._value = VALUES[policy]
        self._options: dict[tuple[Occupancy, int], tuple[Option, ...]] = {}

    @property
    def prefers_fuller(self) -> bool:
        """Whether equal costs go to the fuller GPU; first fit simply takes the first."""
        return self.policy is not PolicyName.FIRST_FIT

    def options(self, occupancy: Occupancy, profile: Profile) -> tuple[Option, ...]:
        """Return the legal placements of *profile*, cheapest first, then in the driver's order."""
        key = (occupancy, profile.id)
        known = self._options.get(key)
        if known is None:
            known = self._options[key] = self._computed(occupancy, profile)
        return known

    def _computed(self, occupancy: Occupancy, profile: Profile) -> tuple[Option, ...]:
        before = self._value(self.geometry, occupancy)
        options = []
        for placement in self.geometry.legal(occupancy, profile):
            after = self.geometry.occupied(occupancy, profile.id, placement)
            options.append(Option(before - self._value(self.geometry, after), placement, after))
        return tuple(sorted(options, key=lambda option: option.cost))


@functools.lru_cache(maxsize=256)
def tables(geometry: Geometry, policy: PolicyName) -> Tables:
    """Return the tables of a geometry, the same object for equal ones."""
    return Tables(geometry, policy)
