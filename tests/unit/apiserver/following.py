"""Following a reflector step by step, in no time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import GPU_NODES, Unavailable
from nodeagent.apiserver.reflector import Change, Pace, reflect

HEARD_WITHIN_SECONDS = 5.0
LOST = Unavailable(0, "connection lost")


class Pauses:
    """A sleep that takes no time, and what was asked of it."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def reflecting(
    api: Any,
    *,
    pauses: Pauses | None = None,
    pace: Pace | None = None,
    chance: Callable[[], float] = lambda: 1.0,
    **options: Any,
) -> AsyncIterator[Callable[[], Awaitable[Change]]]:
    """Follow the GpuNodes; the value waits for the next change."""
    changes = reflect(
        api,
        GPU_NODES,
        pace=pace or Pace(),
        chance=chance,
        sleep=pauses or Pauses(),
        **options,
    )

    async def following() -> Change:
        async with asyncio.timeout(HEARD_WITHIN_SECONDS):
            return await anext(changes)

    async with contextlib.aclosing(changes):
        yield following


async def create(api: InMemoryApi, name: str, **labels: str) -> None:
    body = {"metadata": {"name": name, "labels": labels}, "spec": {}}
    await api.create(GPU_NODES, body)
