"""Who waits for room, in the order in which kube-scheduler would try them again.

By priority, then by when they came. Pods that stand alike to every rule are in one row: where the
first of a row finds no room, those behind it need not ask. Rows of the same kin, whom every node
judges alike, are told together that there is none anywhere: however many they are, that is one
question.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from itertools import islice

Unit = tuple[int, ...]
"""Arrivals, by number, that are placed together or not at all: one, or a whole gang."""

MOST_KIN = 64
MOST_ROWS = 256
MOST_NAMES = 100_000
"""What is looked at whenever there is more room: kin, rows, and the names of nodes these may go to.

A record may have pods wait for as many different sets of nodes as it has pods, and others leave as
often: all of them each time would never end.
"""

_Row = tuple[object, object]
"""Of which kin and kind those are who are in it."""


class Line:
    """Rows of those who wait, by what tells pods apart (*kind*); *order* is the priority.

    *weight* returns how many names are looked at for a unit.
    """

    def __init__(self, weight: Callable[[Unit], int] = lambda unit: 1) -> None:
        self._weight = weight
        self._rows: dict[object, dict[object, dict[Unit, None]]] = {}
        self._priority: dict[_Row, int] = {}
        self._of: dict[int, tuple[_Row, Unit]] = {}

    def __len__(self) -> int:
        return len(self._of)

    def __contains__(self, number: int) -> bool:
        return number in self._of

    def join(self, unit: Unit, kin: object, kind: object, priority: int) -> None:
        """Let somebody wait; all of a *kin* and *kind* have the same *priority*."""
        self._rows.setdefault(kin, {}).setdefault(kind, {})[unit] = None
        self._priority[kin, kind] = priority
        for number in unit:
            self._of[number] = (kin, kind), unit

    def leave(self, number: int) -> Unit:
        """Let an arrival wait no more, nor those it is to be placed with, and return all of them.

        Nobody, if it does not wait.
        """
        if number not in self._of:
            return ()
        (kin, kind), unit = self._of[number]
        rows = self._rows[kin]
        del rows[kind][unit]
        if not rows[kind]:
            del rows[kind], self._priority[kin, kind]
        if not rows:
            del self._rows[kin]
        for each in unit:
            del self._of[each]
        return unit

    def again(self, hopeless: Callable[[Unit], bool], tried: Callable[[Unit], bool]) -> None:
        """Try everybody once more, but for kin of whom one is *hopeless*: no node would take it.

        *tried* places a unit, or tells that there is no room for it. Where more rows wait than are
        tried at a time, those that waited longest for their turn are.
        """
        heads = [
            (-self._priority[row], next(iter(self._rows[row[0]][row[1]])), row)
            for row in self._turn(hopeless)
        ]
        # Kinds need not be comparable; units are all different, so that none are compared.
        heapq.heapify(heads)
        while heads:
            _, unit, row = heads[0]
            if not tried(unit):
                heapq.heappop(heads)
                continue
            self.leave(unit[0])
            kin, kind = row
            left = self._rows.get(kin, {}).get(kind)
            if left:
                heapq.heapreplace(heads, (-self._priority[row], next(iter(left)), row))
            else:
                heapq.heappop(heads)

    def _turn(self, hopeless: Callable[[Unit], bool]) -> Sequence[_Row]:
        """Return the rows whose turn it is: all of them, if they are not too many.

        Those that had it go to the end where some are left.
        """
        turn: list[_Row] = []
        names, looked_at = MOST_NAMES, []
        for kin, rows in islice(self._rows.items(), MOST_KIN):
            if len(turn) >= MOST_ROWS or names <= 0:
                break
            looked_at.append(kin)
            if hopeless(next(iter(next(iter(rows.values()))))):
                continue
            some: list[object] = []
            for kind, row in rows.items():
                if len(turn) + len(some) >= MOST_ROWS or names <= 0:
                    break
                some.append(kind)
                names -= self._weight(next(iter(row)))
            turn += [(kin, kind) for kind in some]
            if len(some) < len(rows):
                for kind in some:
                    rows[kind] = rows.pop(kind)
        if len(looked_at) < len(self._rows):
            for kin in looked_at:
                self._rows[kin] = self._rows.pop(kin)
        return turn
