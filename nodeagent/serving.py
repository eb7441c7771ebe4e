"""Running agents until the process is told to end, and ending them well."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterable, Sequence

import structlog

from nodeagent.agent import Agent

log = structlog.get_logger()

SIGNALS = (signal.SIGTERM, signal.SIGINT)


async def serve(agents: Sequence[Agent]) -> None:
    """Run *agents* until SIGTERM or SIGINT; the first drains them, a second ends them at once."""
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
