"""Scores as tables: for each state and profile, the legal placements and what each costs.

A MIG GPU has a few hundred distinguishable states, so every score is looked up. Entries are
computed when first asked for; tables are shared by all GPUs of the same geometry.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import msgspec

from extender.packing.arrays import Arrays, arrays
from extender.packing.rules import ByValue, Rule, rule
from extender.packing.states import added, holding, precedence
from extender.policy import Policy, PolicyName
from nodeagent.api.geometry import Geometry, Occupancy, Placement, Profile


class Option(msgspec.Struct, frozen=True):
    """One legal placement, what it costs, and what the GPU's state would be after it.

    ``tie`` is the GPU's precedence before it, negative: among equal costs the least comes first.
    """

    cost: int
    placement: Placement
    after: Occupancy
    tie: int = 0


class Tables:
    """All placements on GPUs of one geometry under one rule."""

    def __init__(self, geometry: Geometry, rule: Rule) -> None:
        self.geometry = geometry
        self.rule = rule
        self._options: dict[tuple[Occupancy, int], tuple[Option, ...]] = {}
        self._worth: dict[Occupancy, int] = {}
        self._at_once: dict[tuple[Occupancy, int], int] = {}
        self._cheapest: dict[int, Cheapest] = {}

    @property
    def values_states(self) -> bool:
        """Whether a placement costs what the GPU loses in value, whatever came before it."""
        return isinstance(self.rule, ByValue)

    def holding(self, taken: Iterable[tuple[int, Placement]]) -> Occupancy:
        """Return the state, as the rule sees it, of a GPU with these (profile id, placement)."""
        return holding(self.geometry, self.rule.key, taken)

    def precedence(self, occupancy: Occupancy) -> int:
        """Return how early a GPU in this state is taken among equal costs: the highest first."""
        return precedence(occupancy) if self.rule.by_precedence else 0

    def worth(self, occupancy: Occupancy) -> int:
        """Return what a state is worth to the future; 0 under a rule that does not say."""
        if not isinstance(self.rule, ByValue):
            return 0
        known = self._worth.get(occupancy)
        if known is None:
            known = self._worth[occupancy] = self.rule.value(self.geometry, occupancy)
        return known

    def options(self, occupancy: Occupancy, profile: Profile) -> tuple[Option, ...]:
        """Return the legal placements of *profile*, cheapest first, then in the rule's order."""
        key = (occupancy, profile.id)
        known = self._options.get(key)
        if known is None:
            known = self._options[key] = self._computed(occupancy, profile)
        return known

    def at_once(self, occupancy: Occupancy, profile: Profile) -> int:
        """Return how many instances of *profile* alone a GPU in this state could still take."""
        key = (occupancy, profile.id)
        known = self._at_once.get(key)
        if known is None:
            known = self._at_once[key] = _at_once(self.geometry, occupancy, profile)
        return known

    def cheapest(self, profile_id: int) -> Cheapest:
        """Return the first of the options for a profile by its id, in each state."""
        known = self._cheapest.get(profile_id)
        if known is None:
            known = self._cheapest[profile_id] = Cheapest(self, profile_id)
        return known

    def _computed(self, occupancy: Occupancy, profile: Profile) -> tuple[Option, ...]:
        legal = tuple(self.geometry.legal(occupancy, profile))
        tie = -self.precedence(occupancy)
        options = (
            Option(cost, placement, added(self.geometry, occupancy, profile.id, placement), tie)
            for cost, placement in self.rule.ranked(self.geometry, occupancy, profile, legal)
        )
        return tuple(sorted(options, key=lambda option: option.cost))

    @functools.cached_property
    def arrays(self) -> Arrays:
        """Every state's best option as arrays, for decisions over many GPUs at once."""
        return arrays(self.geometry, self.rule.key, self.options, self.precedence)


class Cheapest(dict[Occupancy, Option | None]):
    """The cheapest placement of one profile by the GPU's state, None where there is none.

    Worked out when first asked for.
    """

    def __init__(self, of: Tables, profile_id: int) -> None:
        super().__init__()
        self._of = of
        self._profile = of.geometry.by_id.get(profile_id)

    def __missing__(self, occupancy: Occupancy) -> Option | None:
        options = () if self._profile is None else self._of.options(occupancy, self._profile)
        return self.setdefault(occupancy, options[0] if options else None)


def tables(geometry: Geometry, policy: PolicyName | Policy) -> Tables:
    """Return the tables of a geometry, the same object for equal ones."""
    if isinstance(policy, PolicyName):
        return _tables(geometry, Policy(policy))
    return _tables(geometry, policy.on(geometry.hash))


@functools.lru_cache(maxsize=256)
def _tables(geometry: Geometry, policy: Policy) -> Tables:
    return Tables(geometry, rule(policy))


def _at_once(geometry: Geometry, occupancy: Occupancy, profile: Profile) -> int:
    count, end = 0, 0
    for placement in sorted(geometry.legal(occupancy, profile)):
        if placement.start >= end:
            count, end = count + 1, placement.end
    if profile.limited:
        held = occupancy.counts[geometry.limited.index(profile.id)]
        count = min(count, max(0, profile.max_instances - held))
    return count
