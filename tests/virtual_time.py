"""An event loop whose time passes at once: an hour of waiting is one line of test."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")

A_THREAD_ENDS_WITHIN_SECONDS = 5.0
"""By everybody's clock: it may be all that is waited for, at the latest when the loop ends."""


class _Jumping(selectors.DefaultSelector):
    """Instead of waiting for the next timer, it moves the clock there."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            if timeout is not None:
                self.now += timeout
            elif not (ready := super().select(A_THREAD_ENDS_WITHIN_SECONDS)):
                raise RuntimeError("everything waits, and nothing is going to happen")
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """For code that waits for timers and for other tasks only."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def in_virtual_time(work: Coroutine[Any, Any, _T]) -> _T:
    """Run *work* to its end; its loop's time starts at 0."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(work)
