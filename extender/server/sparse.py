"""Log events that anybody outside can cause, and so cause a flood of."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import structlog

log = structlog.get_logger()


class SparseLog:
    """Logs each event at most once in *every* seconds, with how many were left out before it."""

    def __init__(self, every: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._every = every
        self._clock = clock
        self._logged: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def warning(self, event: str, **facts: Any) -> None:
        """Log *event*, unless it was just logged."""
        now = self._clock()
        if now - self._logged.get(event, float("-inf")) < self._every:
            self._left_out[event] = self._left_out.get(event, 0) + 1
            return
        self._logged[event] = now
        log.warning(event, left_out=self._left_out.pop(event, 0), **facts)
