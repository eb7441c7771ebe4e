"""A policy's tables spread over a whole fleet: every decision is a look-up by GPU state.

States and slots are numbered through all groups of the fleet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from extender.packing.arrays import NEVER, ranks
from extender.packing.tables import Tables
from extender.simulation.fleet import Fleet, Kind
from nodeagent.api.geometry import Geometry, Occupancy, Placement


class Board(msgspec.Struct, frozen=True):
    """What a replay looks things up in.

    ``start`` is (GPUs): each GPU's state when empty. ``rank`` and ``slot`` hold for each kind a row
    over states; ``after`` and ``without`` for each slot a row over states. ``states`` and ``slots``
    tell what the numbers mean.
    """

    fleet: Fleet
    kinds: tuple[Kind, ...]
    states: tuple[tuple[int, Occupancy], ...]
    slots: tuple[tuple[int, int, Placement], ...]
    start: NDArray[np.intp]
    rank: tuple[NDArray[np.int32], ...]
    slot: list[list[int]]
    after: list[list[int]]
    without: list[list[int]]

    def measured(self, measure: Callable[[Geometry, Occupancy], int]) -> NDArray[np.int64]:
        """Return a measure of every state, as (states)."""
        groups = self.fleet.groups
        values = [measure(groups[group].geometry, state) for group, state in self.states]
        return np.array(values, np.int64)


def board(fleet: Fleet, kinds: Sequence[Kind], tables: Sequence[Tables]) -> Board:
    """Return the board of a fleet, given the *tables* of each group."""
    parts = [each.arrays for each in tables]
    state_count = sum(len(part.states) for part in parts)
    slot_count = sum(len(part.slots) for part in parts)
    cost = np.zeros((len(kinds), state_count), np.int64)
    slot = np.full((len(kinds), state_count), NEVER, np.intp)
    after = np.full((slot_count, state_count), NEVER, np.intp)
    without = np.full((slot_count, state_count), NEVER, np.intp)
    start: list[int] = []
    first_state = first_slot = 0
    for at, (group, part) in enumerate(zip(fleet.groups, parts, strict=True)):
        states = slice(first_state, first_state + len(part.states))
        slots = slice(first_slot, first_slot + len(part.slots))
        for row, kind in enumerate(kinds):
            if (profile := kind.profiles[at]) is not None:
                own = group.geometry.profiles.index(profile)
                cost[row, states] = part.cost[own]
                slot[row, states] = _shifted(part.slot[own], first_slot)
        after[slots, states] = _shifted(part.after, first_state)
        without[slots, states] = _shifted(part.without, first_state)
        start += [first_state] * group.gpus
        first_state, first_slot = states.stop, slots.stop
    precedence = np.concatenate([part.precedence for part in parts])
    return Board(
        fleet,
        tuple(kinds),
        tuple((at, state) for at, part in enumerate(parts) for state in part.states),
        tuple((at, s.profile_id, s.placement) for at, part in enumerate(parts) for s in part.slots),
        np.array(start, np.intp),
        tuple(ranks(cost[row], precedence, slot[row] != NEVER) for row in range(len(kinds))),
        slot.tolist(),
        after.tolist(),
        without.tolist(),
    )


def _shifted(numbers: NDArray[np.intp], by: int) -> NDArray[np.intp]:
    return np.where(numbers == NEVER, NEVER, numbers + by)
