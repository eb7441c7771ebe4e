"""A clock that a test sets forward."""

from __future__ import annotations

import time


class Ahead:
    """Tells monotonic time, *by* so many seconds ahead of the real one."""

    def __init__(self) -> None:
        self.by = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.by
