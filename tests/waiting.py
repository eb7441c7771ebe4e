"""Waiting for what background work brings about, where there is no event to wait for."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable


async def until(
    condition: Callable[[], object | Awaitable[object]],
    *,
    within: float = 10.0,
    every: float = 0.001,
) -> None:
    """Return as soon as *condition* holds; raise TimeoutError if it never does (in seconds)."""
    async with asyncio.timeout(within):
        while True:
            held = condition()
            if await held if inspect.isawaitable(held) else held:
                return
            await asyncio.sleep(every)
