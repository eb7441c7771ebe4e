"""Running agents until the process is told to end, and ending them well."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import NoReturn

import structlog

from nodeagent.agent import Agent

log = structlog.get_logger()

SIGNALS = (signal.SIGTERM, signal.SIGINT)
ALIVE_SECONDS = 10.0


async def serve(
    agents: Sequence[Agent], alive: Path | None = None, *, alive_every: float = ALIVE_SECONDS
) -> None:
    """Run *agents* until SIGTERM or SIGINT; the first drains them, a second ends them at once.

    While the event loop turns, the file *alive* is touched every *alive_every* seconds, for a probe
    that looks at its age: a call that does not come back would hold all of them up for good. It
    says nothing of their passes, which may take minutes, as long as the driver takes for a change.

    Raises:
        ExceptionGroup: an agent has failed, or the file cannot be touched (OSError).
    """
    told = asyncio.Event()
    this = asyncio.current_task()
    assert this is not None

    def end() -> None:
        if told.is_set():
            this.cancel()
        told.set()

    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, end)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            async with _touched(alive, alive_every):
                await _until(told, agents)
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
    log.info("agents_stopped")


async def _until(told: asyncio.Event, agents: Iterable[Agent]) -> None:
    """Run *agents* until *told* to end, and let them drain before they do."""
    async with asyncio.TaskGroup() as tasks:
        running = {agent: tasks.create_task(agent.run(), name="agent") for agent in agents}
        log.info("agents_started", agents=len(running))
        await told.wait()
        log.info("agents_draining")
        await asyncio.gather(*(agent.drain() for agent in running))
        for task in running.values():
            task.cancel()


@contextlib.asynccontextmanager
async def _touched(file: Path | None, every: float) -> AsyncIterator[None]:
    """Keep touching the *file*, if there is one, until the block ends."""
    if file is None:
        yield
        return
    async with asyncio.TaskGroup() as tasks:
        touching = tasks.create_task(_keep_touching(file, every), name="alive")
        yield
        touching.cancel()


async def _keep_touching(file: Path, every: float) -> NoReturn:
    while True:
        file.touch()  # noqa: ASYNC240 - in memory, by the manifests; on a disk it takes microseconds
        await asyncio.sleep(every)
