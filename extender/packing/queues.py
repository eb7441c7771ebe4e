"""GPUs that wait to be used: by state, and where a kind of request would go first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Place = tuple[int, int]
"""A group of nodes, and a state of its GPUs."""


class Ranking:
    """Where the requests of a kind could go, the best place first; some may be used up."""

    def __init__(self) -> None:
        self.heap: list[tuple[int, int, Place]] = []
        self.known: set[Place] = set()


class Queue:
    """GPUs that are in a state, or were: those used last come first."""

    def __init__(self, state: int, gpus: Sequence[int]) -> None:
        self._of = state
        self._untouched: Iterator[int] = iter(gpus)
        self._next = next(self._untouched, None)
        self._entered: list[int] = []

    def extend(self, gpus: Sequence[int]) -> None:
        """Add GPUs; the last is used first."""
        self._entered.extend(gpus)

    def first(self, states: NDArray[np.int32]) -> int | None:
        """Return the first GPU that still is in the state."""
        while self._entered:
            if states[self._entered[-1]] == self._of:
                return self._entered[-1]
            self._entered.pop()
        while self._next is not None and states[self._next] != self._of:
            self._next = next(self._untouched, None)
        return self._next
