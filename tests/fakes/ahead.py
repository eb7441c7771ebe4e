"""A clock that a test sets forward."""

from __future__ import annotations

import asyncio


class Ahead:
    """Tells the event loop's time, *by* so many seconds ahead."""

    def __init__(self) -> None:
        self.by = 0.0

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self.by
