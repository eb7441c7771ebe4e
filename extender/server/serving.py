"""The door, put together and opened."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from extender.server.certificates import Certificates
from extender.server.limits import Limits
from extender.server.listener import listening
from extender.server.routes import application
from extender.service import Service


@asynccontextmanager
async def serving(
    service: Service,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    prefix: str = "",
    tls: Certificates | None = None,
    clients: frozenset[str] = frozenset(),
    limits: Limits | None = None,
) -> AsyncIterator[str]:
    """Serve the hooks and yield their URL; port 0 takes a free one.

    Only *clients* may call them, by a name in their certificates; all with one if none is given.
    When the block ends, the binds that wait are answered before the connections are closed.

    Raises:
        OSError: the address cannot be had.
    """
    limits = limits or Limits()
    runner = web.AppRunner(
        application(service, prefix=prefix, clients=clients, limits=limits),
        shutdown_timeout=limits.shutdown_seconds,
    )
    await runner.setup()
    assert runner.server is not None  # it was set up
    try:
        async with listening(
            runner.server, limits, tls, host=host, port=port, way=service.knowledge.way
        ) as bound:
            yield f"{'https' if tls else 'http'}://{host}:{bound}{prefix}"
    finally:
        service.stop()
        await runner.cleanup()
