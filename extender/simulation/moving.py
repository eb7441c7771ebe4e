"""A demand played with moves: who would be refused is admitted if few enough others can be moved.

A request that fits nowhere, but would if everything could be moved (the repack test), is admitted
where room is made for it; moves take no time. Nothing is moved for any other reason.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from extender.packing.relocation import Host, Occupant
from extender.packing.room import NoRoom, Room
from extender.packing.tables import Tables
from extender.simulation.board import Board
from extender.simulation.demand import Demand
from extender.simulation.pickers import Cheapest
from extender.simulation.repack import Fits

Mover = Callable[[Sequence[Host], str], Room | NoRoom]
"""Makes room on GPUs for one more of a kind, given by its name."""


class Moved(msgspec.Struct, frozen=True):
    """What happened.

    By request: whether it was ``accepted``, and how often its VM was ``moved`` afterwards. By
    request that would have fitted if everything could be moved and did not: in ``plans``, how many
    moves admitted it, 0 if it was refused all the same.
    """

    accepted: NDArray[np.bool_]
    moved: NDArray[np.int32]
    plans: NDArray[np.int32]


def replay_with_moves(
    board: Board, tables: Sequence[Tables], demand: Demand, fits: Fits, mover: Mover
) -> Moved:
    """Play *demand* on a board made from the *tables* of each group."""
    return _Replay(board, tables, demand, fits, mover).played()


class _Replay:
    def __init__(
        self, board: Board, tables: Sequence[Tables], demand: Demand, fits: Fits, mover: Mover
    ) -> None:
        self._board, self._demand, self._fits, self._mover = board, demand, fits, mover
        self._pick = Cheapest(board).pick
        self._states = board.start.copy()
        self._names = [kind.name for kind in board.kinds]
        self._slots = {slot: at for at, slot in enumerate(board.slots)}
        self._live = [0] * len(board.kinds)
        self._hosts: list[Host] = []
        self._group: list[int] = []
        for at, group in enumerate(board.fleet.groups):
            serves = {k.name: p.id for k in board.kinds if (p := k.profiles[at]) is not None}
            self._hosts += [Host(f"{at}/{n}", tables[at], serves) for n in range(group.gpus)]
            self._group += [at] * group.gpus
        self._gpu: dict[str, int] = {}
        self._moved = np.zeros(len(demand.times), np.int32)
        self._plans: list[int] = []

    def played(self) -> Moved:
        """Play it to the end."""
        times, kinds, lifetimes = self._demand.times, self._demand.kinds, self._demand.lifetimes
        accepted = np.zeros(len(times), np.bool_)
        leaving: list[tuple[float, int]] = []
        for number, (time, kind) in enumerate(zip(times, kinds, strict=True)):
            while leaving and leaving[0][0] <= time:
                gone = heapq.heappop(leaving)[1]
                self._live[kinds[gone]] -= 1
                self._take(self._gpu[str(gone)], str(gone))
            if self._place(number, kind) or self._make_room(number, kind):
                accepted[number] = True
                self._live[kind] += 1
                heapq.heappush(leaving, (time + lifetimes[number], number))
        return Moved(accepted, self._moved, np.array(self._plans, np.int32))

    def _place(self, number: int, kind: int) -> bool:
        picked = self._pick(kind, self._states)
        if picked is None:
            return False
        gpu, slot = picked
        _, profile_id, placement = self._board.slots[slot]
        self._put(gpu, Occupant(str(number), self._names[kind], profile_id, placement))
        return True

    def _make_room(self, number: int, kind: int) -> bool:
        more = [count + (at == kind) for at, count in enumerate(self._live)]
        if not self._fits(more):
            return False
        found = self._mover(self._hosts, self._names[kind])
        self._plans.append(len(found.moves) if isinstance(found, Room) else 0)
        if not isinstance(found, Room):
            return False
        for move in found.moves:
            occupant = self._take(move.source, move.occupant)
            self._put(move.target, occupant._replace(placement=move.placement))
            self._moved[int(move.occupant)] += 1
        name = self._names[kind]
        profile_id = self._hosts[found.gpu].serves[name]
        self._put(found.gpu, Occupant(str(number), name, profile_id, found.placement))
        return True

    def _take(self, gpu: int, id: str) -> Occupant:
        host = self._hosts[gpu]
        (occupant,) = (each for each in host.occupants if each.id == id)
        left = tuple(each for each in host.occupants if each is not occupant)
        self._hosts[gpu] = msgspec.structs.replace(host, occupants=left)
        slot = self._slots[self._group[gpu], occupant.profile_id, occupant.placement]
        self._states[gpu] = self._board.without[slot][self._states[gpu]]
        return occupant

    def _put(self, gpu: int, occupant: Occupant) -> None:
        host = self._hosts[gpu]
        more = tuple(sorted((*host.occupants, occupant), key=lambda each: each.placement))
        self._hosts[gpu] = msgspec.structs.replace(host, occupants=more)
        self._gpu[occupant.id] = gpu
        slot = self._slots[self._group[gpu], occupant.profile_id, occupant.placement]
        then = self._board.after[slot][self._states[gpu]]
        if then < 0:
            raise AssertionError("a mover placed an instance where something is")
        self._states[gpu] = then
