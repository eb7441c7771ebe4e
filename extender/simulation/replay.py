"""A demand played against a fleet: who was placed where, and every change of a GPU's state.

What it comes to is worked out afterwards, from the history alone (:mod:`measures`).
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from extender.simulation.board import Board
from extender.simulation.demand import Demand
from extender.simulation.pickers import Pick, Picker

NOWHERE = -1
"""In place of the GPU of a request that was refused."""

_TIMED_EVERY = 16  # decisions; timing them all would slow the replay by a tenth

_Decision = Callable[[int, NDArray[np.intp]], Pick | None]


class History(msgspec.Struct, frozen=True):
    """What happened.

    By request: ``gpu`` and ``slot`` (:data:`NOWHERE` if refused) and ``placed_at``, its time of
    arrival unless it waited. By change, in order of time: ``changed_at``, and the number of the
    state the GPU was in ``before`` and ``after``. ``decision_ns``: how long some decisions took.
    """

    gpu: NDArray[np.int32]
    slot: NDArray[np.int32]
    placed_at: NDArray[np.float64]
    changed_at: NDArray[np.float64]
    before: NDArray[np.int32]
    after: NDArray[np.int32]
    decision_ns: NDArray[np.int64]


def replay(
    board: Board,
    picker: Picker,
    demand: Demand,
    *,
    queueing: bool = False,
    clock_ns: Callable[[], int] | None = None,
) -> History:
    """Play *demand*: departures at or before an arrival come first, then it is decided.

    What does not fit is lost; with *queueing* it waits, and each departure tries those who wait in
    the order in which they came, passing over who still does not fit.
    """
    playing = _Replay(board, picker, demand, clock_ns)
    for number, time in enumerate(demand.times):
        playing.leave_until(time)
        if not playing.place(number, time) and queueing:
            playing.waiting.append(number)
    return playing.history()


class _Replay:
    def __init__(
        self, board: Board, picker: Picker, demand: Demand, clock_ns: Callable[[], int] | None
    ) -> None:
        self._board = board
        self._pick = picker.pick if clock_ns is None else self._timed(picker.pick, clock_ns)
        self._demand = demand
        self._states = board.start.copy()
        self._state: list[int] = board.start.tolist()  # the same: single numbers are faster here
        self._leaving: list[tuple[float, int]] = []
        self._gpu = [NOWHERE] * len(demand.times)
        self._slot = [NOWHERE] * len(demand.times)
        self._placed_at = list(demand.times)
        self._changed_at: list[float] = []
        self._before: list[int] = []
        self._after: list[int] = []
        self._decision_ns: list[int] = []
        self.waiting: list[int] = []

    def leave_until(self, time: float) -> None:
        """Let everybody leave whose time has come by *time*."""
        leaving, state, without = self._leaving, self._state, self._board.without
        while leaving and leaving[0][0] <= time:
            when, number = heapq.heappop(leaving)
            gpu = self._gpu[number]
            self._change(when, gpu, without[self._slot[number]][state[gpu]])
            if self.waiting:
                self._retry(when)

    def place(self, number: int, time: float) -> bool:
        """Place a request if it fits."""
        picked = self._pick(self._demand.kinds[number], self._states)
        if picked is None:
            return False
        gpu, slot = picked
        self._gpu[number], self._slot[number], self._placed_at[number] = gpu, slot, time
        self._change(time, gpu, self._board.after[slot][self._state[gpu]])
        heapq.heappush(self._leaving, (time + self._demand.lifetimes[number], number))
        return True

    def _timed(self, pick: _Decision, clock_ns: Callable[[], int]) -> _Decision:
        """Return *pick*, noting now and then how long it takes."""
        countdown = itertools.cycle(range(_TIMED_EVERY))

        def timed(kind: int, states: NDArray[np.intp]) -> Pick | None:
            if next(countdown):
                return pick(kind, states)
            started = clock_ns()
            picked = pick(kind, states)
            self._decision_ns.append(clock_ns() - started)
            return picked

        return timed

    def _retry(self, time: float) -> None:
        refused: set[int] = set()
        still: list[int] = []
        for number in self.waiting:
            kind = self._demand.kinds[number]
            if kind in refused or not self.place(number, time):
                refused.add(kind)
                still.append(number)
        self.waiting = still

    def _change(self, time: float, gpu: int, then: int) -> None:
        self._changed_at.append(time)
        self._before.append(self._state[gpu])
        self._after.append(then)
        self._states[gpu] = self._state[gpu] = then

    def history(self) -> History:
        """Return what happened so far."""
        return History(
            np.array(self._gpu, np.int32),
            np.array(self._slot, np.int32),
            np.array(self._placed_at),
            np.array(self._changed_at),
            np.array(self._before, np.int32),
            np.array(self._after, np.int32),
            np.array(self._decision_ns, np.int64),
        )
