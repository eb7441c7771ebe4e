"""Who waits for room, in the order in which kube-scheduler would try them again.

By priority, then by when they came. Pods that stand alike to every rule are in one row: where the
first of a row finds no room, those behind it need not ask. Rows of the same kin, whom every node
judges alike, are told together that there is none anywhere: however many they are, that is one
question.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

Unit = tuple[int, ...]
"""Arrivals, by number, that are placed together or not at all: one, or a whole gang."""

_Row = tuple[object, object]
"""Of which kin and kind those are who are in it."""


class Line:
    """Rows of those who wait, by what tells pods apart (*kind*); *order* is the priority."""

    def __init__(self) -> None:
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

        *tried* places a unit, or tells that there is no room for it.
        """
        heads = [
            (-self._priority[kin, kind], next(iter(row)), (kin, kind))
            for kin, rows in self._rows.items()
            if not hopeless(next(iter(next(iter(rows.values())))))
            for kind, row in rows.items()
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
