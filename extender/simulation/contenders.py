"""Everything that can be named in a simulation: our policies, and imitations of others' rules.

The imitations follow what their authors' code or papers say, on one flat list of GPUs, with nodes
only where a rule looks at nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import msgspec

from extender.packing.fragmentation import longest_free_run
from extender.packing.rules import ByOutcome, ByValue, Rule
from extender.packing.states import Key
from extender.packing.tables import Tables, tables
from extender.packing.value import indifferent, placements_left
from extender.policy import Policy, PolicyName, Shares
from extender.simulation.board import Board, board
from extender.simulation.chance import Chance
from extender.simulation.fleet import Fleet, Kind
from extender.simulation.pickers import (
    AnyPlace,
    Bigger,
    Cheapest,
    EmptiestNode,
    Picker,
    RoundRobin,
)
from nodeagent.api.geometry import Geometry, Occupancy, Placement, Profile

REPACK = "repack"
"""Not a policy: admits what would fit if everything could be moved, at once and for nothing."""

_OWN_STREAM = 5  # added to the seed of those who throw dice, that the demand stays the same


class UnknownContender(Exception):
    """No policy and no imitation has this ``name``."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} is none of {', '.join((*PolicyName, *IMITATIONS, REPACK))}")
        self.name = name


class Contender(msgspec.Struct, frozen=True):
    """A name, the tables it looks up for a geometry, and how a replay's GPUs are picked."""

    name: str
    tables: Callable[[Geometry], Tables]
    picker: Callable[[Board, int], Picker]

    def board(self, fleet: Fleet, kinds: Sequence[Kind]) -> Board:
        """Return its tables spread over a fleet."""
        return board(fleet, kinds, [self.tables(group.geometry) for group in fleet.groups])


class HamiSlots(msgspec.Struct, frozen=True):
    """HAMi's order of GPUs, by slices in use, and the slot rule of its release 2.10.

    Profiles named ``1g.`` or ``3g.`` take the highest legal start, all others the lowest.
    """

    spread: bool
    key: Key = Key.OCCUPANCY
    by_precedence: bool = False

    def ranked(
        self, geometry: Geometry, state: Occupancy, profile: Profile, legal: Sequence[Placement]
    ) -> Iterator[tuple[int, Placement]]:
        """Yield the same cost for every placement of a GPU, in the order of the slot rule."""
        cost = _by_use(state, spread=self.spread)
        for placement in sorted(legal, reverse=profile.name.startswith(("1g.", "3g."))):
            yield cost, placement


class HamiLongestRun(msgspec.Struct, frozen=True):
    """HAMi's order of GPUs with the slot rule proposed in its pull request 2855.

    The start that leaves the longest run of free slices, then the most legal placements.
    """

    spread: bool
    key: Key = Key.OCCUPANCY
    by_precedence: bool = False

    def ranked(
        self, geometry: Geometry, state: Occupancy, profile: Profile, legal: Sequence[Placement]
    ) -> Iterator[tuple[int, Placement]]:
        """Yield the same cost for every placement of a GPU, in the order of the slot rule."""

        def room_left(placement: Placement) -> tuple[int, int]:
            then = Occupancy(state.mask | placement.mask, state.counts)
            return -longest_free_run(geometry, then.mask), -placements_left(geometry, then)

        cost = _by_use(state, spread=self.spread)
        for placement in sorted(sorted(legal), key=room_left):
            yield cost, placement


def _by_use(state: Occupancy, *, spread: bool) -> int:
    used = state.mask.bit_count()
    return used if spread else -used


def _cheapest(board: Board, seed: int) -> Picker:
    return Cheapest(board)


_FIRST_FIT = ByValue(indifferent, by_precedence=False)
_DRIVERS_CHOICE = ByOutcome(placements_left)

IMITATIONS: Mapping[str, tuple[Rule, Callable[[Board, int], Picker]]] = MappingProxyType(
    {
        "hami-binpack": (HamiSlots(spread=False), _cheapest),
        "hami-spread": (HamiSlots(spread=True), _cheapest),
        "hami-binpack-bigger": (HamiSlots(spread=False), lambda board, _: Bigger(board)),
        "hami-spread-bigger": (HamiSlots(spread=True), lambda board, _: Bigger(board)),
        "hami-2855-binpack": (HamiLongestRun(spread=False), _cheapest),
        "hami-2855-spread": (HamiLongestRun(spread=True), _cheapest),
        "instaslice": (_FIRST_FIT, lambda board, _: EmptiestNode(board)),
        "dra": (_FIRST_FIT, _cheapest),
        "kubernetes-default": (
            _DRIVERS_CHOICE,
            lambda board, seed: EmptiestNode(board, Chance(seed + _OWN_STREAM)),
        ),
        "round-robin": (_FIRST_FIT, lambda board, _: RoundRobin(board)),
        "random": (_FIRST_FIT, lambda board, seed: AnyPlace(board, Chance(seed + _OWN_STREAM))),
    }
)
"""Others' rules: how they rank the placements of a GPU, and how they pick one.

``kubernetes-default`` is what happens without any of this: kube-scheduler spreads VMs over nodes,
and the driver chooses the start that leaves the most placements.
"""


def contender(name: str, demand: Shares) -> Contender:
    """Return a policy or an imitation by name; *demand* is told to those who ask for it.

    Raises:
        UnknownContender: saying which names there are.
    """
    if name in IMITATIONS:
        rule, picker = IMITATIONS[name]
        return Contender(name, lambda geometry: Tables(geometry, rule), picker)
    try:
        policy = Policy(PolicyName(name), demand)
    except ValueError as error:
        raise UnknownContender(name) from error
    return of_policy(policy)


def of_policy(policy: Policy) -> Contender:
    """Return a policy as a contender."""
    return Contender(
        policy.name.value, lambda geometry: tables(geometry, policy), lambda b, _: Cheapest(b)
    )
