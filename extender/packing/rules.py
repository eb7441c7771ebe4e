"""How each policy ranks the legal placements of one GPU.

One Protocol: a rule says what it distinguishes of a GPU (its key), how it breaks ties between GPUs,
and what each legal placement costs. Tables are made from rules, and every decision from tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from extender.packing import value
from extender.packing.learned import learned_value
from extender.packing.states import Key, Shape, added, shape
from extender.policy import Policy, PolicyName
from nodeagent.api.geometry import Geometry, Occupancy, Placement, Profile


class Rule(Protocol):
    """How the legal placements on one GPU are ranked."""

    @property
    def key(self) -> Key:
        """What the rule distinguishes of a GPU."""
        ...

    @property
    def by_precedence(self) -> bool:
        """Whether equal costs go by precedence before they go to the lowest index."""
        ...

    def ranked(
        self, geometry: Geometry, state: Occupancy, profile: Profile, legal: Sequence[Placement]
    ) -> Iterator[tuple[int, Placement]]:
        """Yield what each of the *legal* placements costs, in the order that breaks ties."""
        ...


class ByValue(msgspec.Struct, frozen=True):
    """A placement costs what the GPU's state loses in value."""

    value: value.ValueFunction
    key: Key = Key.OCCUPANCY
    by_precedence: bool = True

    def ranked(
        self, geometry: Geometry, state: Occupancy, profile: Profile, legal: Sequence[Placement]
    ) -> Iterator[tuple[int, Placement]]:
        """Yield ``V(before) - V(after)`` for each placement, in the driver's order."""
        before = self.value(geometry, state)
        for placement in legal:
            then = added(geometry, state, profile.id, placement)
            yield before - self.value(geometry, then), placement


class ByOutcome(msgspec.Struct, frozen=True):
    """A placement costs minus the value of what it leads to, whatever was there before."""

    value: value.ValueFunction
    key: Key = Key.OCCUPANCY
    by_precedence: bool = False

    def ranked(
        self, geometry: Geometry, state: Occupancy, profile: Profile, legal: Sequence[Placement]
    ) -> Iterator[tuple[int, Placement]]:
        """Yield ``-V(after)`` for each placement, in the driver's order."""
        for placement in legal:
            yield -self.value(geometry, added(geometry, state, profile.id, placement)), placement


class ByFreeSlices(msgspec.Struct, frozen=True):
    """The GPU with the fewest free slices (or the most), then the profile's best start there."""

    most: bool
    key: Key = Key.OCCUPANCY
    by_precedence: bool = False

    def ranked(
        self, geometry: Geometry, state: Occupancy, profile: Profile, legal: Sequence[Placement]
    ) -> Iterator[tuple[int, Placement]]:
        """Yield the same cost for every placement, the best start first."""
        free = geometry.memory_slices - state.mask.bit_count()
        for placement in sorted(legal, key=lambda p: _preference(shape(profile), p.start)):
            yield -free if self.most else free, placement


BEST_STARTS = {
    Shape(4, (0, 4)): (4, 0),
    Shape(2, (0, 2, 4)): (4, 0, 2),
    Shape(2, (0, 2, 4, 6)): (6, 4, 0, 2),
    Shape(1, (0, 1, 2, 3, 4, 5, 6)): (6, 4, 5, 0, 1, 2, 3),
}
"""The slice indices of Turkkan et al. (arXiv 2409.06646) for GPUs with eight memory slices."""


def _preference(of: Shape, start: int) -> int:
    """Return the place of *start* in the best order known; elsewhere the highest start is first."""
    return BEST_STARTS[of].index(start) if of in BEST_STARTS else -start


def values_states(policy: Policy) -> bool:
    """Return whether a placement costs what the GPU loses in value.

    Only then does it not matter in which order instances are placed, and joint plans are proven
    optimal in what GPUs are worth afterwards. The other policies' costs are added up in the order
    of the items: of such a plan, only what it admits is proven.
    """
    return isinstance(rule(policy), ByValue)


def rule(policy: Policy) -> Rule:
    """Return the rule of a policy."""
    match policy.effective:
        case PolicyName.DEFAULT:
            return ByValue(value.unusable_slices, key=Key.INSTANCES)
        case PolicyName.DEMAND_WEIGHTED:
            return ByValue(value.demanded_placements(policy.demand))
        case PolicyName.LEARNED:
            assert policy.weights is not None  # or it would not be effective
            return ByValue(learned_value(policy.weights), key=Key.LAYOUT)
        case PolicyName.MFI:
            return ByValue(value.blocked, by_precedence=False)
        case PolicyName.MFI_PARTLY:
            return ByValue(value.partly_blocked, by_precedence=False)
        case PolicyName.FGD:
            return ByValue(value.demanded_unusable_slices(policy.demand))
        case PolicyName.CAPABILITY:
            return ByOutcome(value.placements_left)
        case PolicyName.CAPABILITY_LOSS:
            return ByValue(value.placements_left)
        case PolicyName.EXPECTED_CAPABILITY_LOSS:
            return ByValue(value.expected_placements_left(policy.demand))
        case PolicyName.BEST_FIT:
            return ByFreeSlices(most=False)
        case PolicyName.WORST_FIT:
            return ByFreeSlices(most=True)
        case PolicyName.FIRST_FIT:
            return ByValue(value.indifferent, by_precedence=False)
