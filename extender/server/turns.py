"""Turns for work that holds the loop: one at a time, and others go on in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """Gives what anybody outside can make expensive a *share* of the loop's time, and no more."""

    def __init__(self, share: float) -> None:
        self._pause_for_each_second = 1 / share - 1
        self._one = asyncio.Lock()
        self._next_at = 0.0

    @asynccontextmanager
    async def turn(self, within: float) -> AsyncIterator[None]:
        """Wait for a turn, and take it; the longer it lasts, the later is the next.

        Raises:
            TimeoutError: the turn has not come *within* so many seconds.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(within) as patience, self._one:
            await asyncio.sleep(self._next_at - loop.time())
            patience.reschedule(None)
            began = loop.time()
            try:
                yield
            finally:
                took = loop.time() - began
                self._next_at = loop.time() + took * self._pause_for_each_second
