"""Which GPU and slot a request gets: the best by rank, the next in turn, any, or by node first."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from extender.packing.arrays import IMPOSSIBLE, NEVER
from extender.simulation.board import Board
from extender.simulation.chance import Chance

Pick = tuple[int, int]
"""A GPU and one of its slots."""


class Picker(Protocol):
    """Decides one replay; it may remember and throw dice."""

    def pick(self, kind: int, states: NDArray[np.intp]) -> Pick | None:
        """Return where an instance of *kind* goes, given every GPU's state; None if nowhere."""
        ...


class Cheapest:
    """The GPU of the lowest rank, the lowest index among equals: what ``choose`` decides."""

    def __init__(self, board: Board) -> None:
        self._rank = board.rank
        self._slot = board.slot

    def pick(self, kind: int, states: NDArray[np.intp]) -> Pick | None:
        """Return the cheapest place."""
        ranks = self._rank[kind].take(states)
        gpu = int(ranks.argmin())
        if ranks[gpu] == IMPOSSIBLE:
            return None
        return gpu, self._slot[kind][states[gpu]]


class Bigger:
    """The cheapest place; where there is none, silently that of another kind, as big or bigger."""

    def __init__(self, board: Board) -> None:
        self._cheapest = Cheapest(board)
        sizes = [kind.size for kind in board.kinds]
        enough = [[o for o, size in enumerate(sizes) if size >= least] for least in sizes]
        self._instead = [
            [kind, *sorted((o for o in others if o != kind), key=sizes.__getitem__)]
            for kind, others in enumerate(enough)
        ]

    def pick(self, kind: int, states: NDArray[np.intp]) -> Pick | None:
        """Return a place that is big enough."""
        for serving in self._instead[kind]:
            picked = self._cheapest.pick(serving, states)
            if picked is not None:
                return picked
        return None


class RoundRobin:
    """The first GPU with room after the one used last."""

    def __init__(self, board: Board) -> None:
        self._slot = np.array(board.slot)
        self._next = 0

    def pick(self, kind: int, states: NDArray[np.intp]) -> Pick | None:
        """Return the next place in turn; a refusal does not move the turn."""
        slots = self._slot[kind].take(states)
        (fitting,) = np.nonzero(slots != NEVER)
        if not len(fitting):
            return None
        at = int(np.searchsorted(fitting, self._next))
        gpu = int(fitting[at % len(fitting)])
        self._next = (gpu + 1) % len(states)
        return gpu, int(slots[gpu])


class AnyPlace:
    """Any legal placement on any GPU, all equally likely."""

    def __init__(self, board: Board, chance: Chance) -> None:
        after = np.array(board.after)
        self._ways = [
            np.array(
                [
                    at
                    for at, (group, profile, _) in enumerate(board.slots)
                    if (served := kind.profiles[group]) is not None and served.id == profile
                ]
            )
            for kind in board.kinds
        ]
        self._legal = [after[ways] != NEVER for ways in self._ways]
        self._counts = [legal.sum(axis=0) for legal in self._legal]
        self._chance = chance

    def pick(self, kind: int, states: NDArray[np.intp]) -> Pick | None:
        """Return one of the legal places."""
        upto = self._counts[kind].take(states).cumsum()
        if not upto[-1]:
            return None
        wanted = int(self._chance.uniform() * int(upto[-1]))
        gpu = int(np.searchsorted(upto, wanted, side="right"))
        before = int(upto[gpu - 1]) if gpu else 0
        (legal,) = np.nonzero(self._legal[kind][:, states[gpu]])
        return gpu, int(self._ways[kind][legal[wanted - before]])


class EmptiestNode:
    """The node with the most free slices that has room; on it the first GPU with room.

    Equal nodes: any of them where a *chance* is given, else the first.
    """

    def __init__(self, board: Board, chance: Chance | None = None) -> None:
        self._slot = np.array(board.slot)
        self._node = np.array(board.fleet.nodes)
        self._free = board.measured(
            lambda geometry, state: geometry.memory_slices - state.mask.bit_count()
        )
        self._chance = chance

    def pick(self, kind: int, states: NDArray[np.intp]) -> Pick | None:
        """Return the first place on the emptiest node."""
        slots = self._slot[kind].take(states)
        fitting = slots != NEVER
        if not fitting.any():
            return None
        free = np.bincount(self._node, weights=self._free.take(states))
        has_room = np.bincount(self._node, weights=fitting) > 0
        best = free[has_room].max()
        (equal,) = np.nonzero(has_room & (free == best))
        chosen = equal[int(self._chance.uniform() * len(equal)) if self._chance else 0]
        gpu = int(np.argmax(fitting & (self._node == chosen)))
        return gpu, int(slots[gpu])
