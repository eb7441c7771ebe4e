"""Who waits for room, in the order in which kube-scheduler would try them again.

By priority, then by when they came. Pods that stand alike to every rule are in one row: where the
first of a row finds no room, those behind it need not ask.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

Unit = tuple[int, ...]
"""Arrivals, by number, that are placed together or not at all: one, or a whole gang."""


class Line:
    """Rows of those who wait, by what tells pods apart (*kind*); *order* is the priority."""

    def __init__(self) -> None:
        self._rows: dict[object, dict[Unit, None]] = {}
        self._priority: dict[object, int] = {}
        self._of: dict[int, tuple[object, Unit]] = {}

    def __len__(self) -> int:
        return len(self._of)

    def __contains__(self, number: int) -> bool:
        return number in self._of

    def join(self, unit: Unit, kind: object, priority: int) -> None:
        """Let somebody wait; all of a *kind* have the same *priority*."""
        self._rows.setdefault(kind, {})[unit] = None
        self._priority[kind] = priority
        for number in unit:
            self._of[number] = kind, unit

    def leave(self, number: int) -> Unit:
        """Let an arrival wait no more, nor those it is to be placed with, and return all of them.

        Nobody, if it does not wait.
        """
        if number not in self._of:
            return ()
        kind, unit = self._of[number]
        row = self._rows[kind]
        del row[unit]
        if not row:
            del self._rows[kind], self._priority[kind]
        for each in unit:
            del self._of[each]
        return unit

    def again(self, tried: Callable[[Unit], bool]) -> None:
        """Try everybody once more; *tried* places a unit, or tells that there is no room for it."""
        heads = [(-self._priority[kind], next(iter(row)), kind) for kind, row in self._rows.items()]
        # Kinds need not be comparable; units are all different, so that none are compared.
        heapq.heapify(heads)
        while heads:
            _, unit, kind = heads[0]
            if not tried(unit):
                heapq.heappop(heads)
                continue
            self.leave(unit[0])
            row = self._rows.get(kind)
            if row:
                heapq.heapreplace(heads, (-self._priority[kind], next(iter(row)), kind))
            else:
                heapq.heappop(heads)
