"""The probes' own door: plain HTTP, for the kubelet has no certificate that the hooks would take.

It tells whether the process lives and is ready, and nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from extender.server.limits import Limits
from extender.server.listener import listening
from extender.server.routes import probes
from extender.service import Service

CONNECTIONS = 16  # a kubelet opens one for each probe, and whoever else asks is in no hurry


@asynccontextmanager
async def probing(
    service: Service, *, host: str = "127.0.0.1", port: int = 0, limits: Limits | None = None
) -> AsyncIterator[str]:
    """Answer probes and yield their URL; port 0 takes a free one.

    Raises:
        OSError: the address cannot be had.
    """
    limits = limits or Limits(connections=CONNECTIONS)
    runner = web.AppRunner(probes(service), shutdown_timeout=limits.shutdown_seconds)
    await runner.setup()
    assert runner.server is not None  # it was set up
    try:
        async with listening(runner.server, limits, None, host=host, port=port) as bound:
            yield f"http://{host}:{bound}"
    finally:
        await runner.cleanup()
