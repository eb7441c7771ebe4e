"""Waiting until something changes: a node's state, or where a gang stands."""

from __future__ import annotations

import asyncio


class Changes:
    """Who waits for a change of what, by name; from one event loop."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Event] = {}

    async def of(self, what: str, *, within: float) -> None:
        """Wait until something about a node or a gang changes, or raise TimeoutError (in seconds).

        It may also be that nothing is decided here any more: look before waiting again.
        """
        event = self._waiting.setdefault(what, asyncio.Event())
        async with asyncio.timeout(within):
            await event.wait()

    def tell(self, what: str) -> None:
        """Let whoever waits for a change of a node or a gang look again."""
        event = self._waiting.pop(what, None)
        if event is not None:
            event.set()

    def tell_all(self) -> None:
        """Let everybody who waits look again."""
        for event in self._waiting.values():
            event.set()
        self._waiting.clear()
