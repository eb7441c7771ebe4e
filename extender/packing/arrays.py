"""The tables of one geometry as arrays: states x profiles to the best option and the next state.

States and slots (a profile at a placement) are numbered. A decision over many GPUs is then one
look-up and one ``argmin``: :func:`ranks` orders states as ``choose`` orders GPUs, and ``argmin``
returns the lowest index among equals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from extender.packing.states import Key, reachable
from nodeagent.api.geometry import Geometry, Occupancy, Placement, Profile

NEVER = -1
"""In place of a slot or a state where there is none."""

IMPOSSIBLE = np.iinfo(np.int32).max
"""The rank of what does not fit."""


class Slot(msgspec.Struct, frozen=True):
    """A profile at one of its placements."""

    profile_id: int
    placement: Placement


class Ways(Protocol):
    """An option as these arrays need it."""

    @property
    def cost(self) -> int:
        """What the placement costs."""
        ...

    @property
    def placement(self) -> Placement:
        """Where the instance goes."""
        ...

    @property
    def after(self) -> Occupancy:
        """The state that follows."""
        ...


class Arrays(msgspec.Struct, frozen=True):
    """All states of a geometry under one rule; ``states[0]`` is the empty GPU.

    Shapes: ``cost`` and ``slot`` are (profiles, states), profiles in the geometry's order: what the
    best option costs, and its slot. ``precedence`` is (states): among equal costs the highest is
    first. ``after`` and ``without`` are (slots, states): the state with that slot's instance added
    and taken away. ``slot``, ``after`` and ``without`` are :data:`NEVER`
    where there is none.
    """

    states: tuple[Occupancy, ...]
    slots: tuple[Slot, ...]
    cost: NDArray[np.int64]
    precedence: NDArray[np.int64]
    slot: NDArray[np.intp]
    after: NDArray[np.intp]
    without: NDArray[np.intp]


def arrays(
    geometry: Geometry,
    key: Key,
    options: Callable[[Occupancy, Profile], Sequence[Ways]],
    precedence: Callable[[Occupancy], int],
) -> Arrays:
    """Return the arrays of a geometry whose *options* are ranked cheapest first.

    Equal costs rank the higher *precedence* first.
    """
    states = tuple(reachable(geometry, key))
    index = {state: at for at, state in enumerate(states)}
    slots = tuple(Slot(p.id, placement) for p in geometry.profiles for placement in p.placements)
    slot_index = {slot: at for at, slot in enumerate(slots)}
    slot = np.full((len(geometry.profiles), len(states)), NEVER, np.intp)
    after = np.full((len(slots), len(states)), NEVER, np.intp)
    without = np.full((len(slots), len(states)), NEVER, np.intp)
    cost = np.zeros((len(geometry.profiles), len(states)), np.int64)
    for row, profile in enumerate(geometry.profiles):
        for at, state in enumerate(states):
            ways = options(state, profile)
            for way in ways:
                chosen, then = slot_index[Slot(profile.id, way.placement)], index[way.after]
                after[chosen, at] = then
                without[chosen, then] = at
            if ways:
                slot[row, at] = slot_index[Slot(profile.id, ways[0].placement)]
                cost[row, at] = ways[0].cost
    ahead = np.array([precedence(state) for state in states], np.int64)
    return Arrays(states, slots, cost, ahead, slot, after, without)


def ranks(
    cost: NDArray[np.int64], precedence: NDArray[np.int64], possible: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """Rank states for one request: least cost first, then precedence; equals share a rank.

    All arguments are (states), of one geometry or of several joined. Where the request is not
    *possible* the rank is :data:`IMPOSSIBLE`.
    """
    levels = np.stack((cost[possible], -precedence[possible]))
    _, order = np.unique(levels, axis=1, return_inverse=True)
    rank = np.full(cost.shape, IMPOSSIBLE, np.int32)
    rank[possible] = order.reshape(-1)
    return rank
