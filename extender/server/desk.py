"""The SRE's desk: what people and their monitoring look at, apart from the hooks.

Whoever asks shows a bearer token, and the API server says who that is and whether they may; without
a *reviewer*, which is for loopback alone, everybody may. Probes are open.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog
from aiohttp import web

from extender.metrics import exposition
from extender.server.access import REVIEWER, token_of
from extender.server.advised import MOVES, add_advised
from extender.server.certificates import Certificates
from extender.server.explained import REVIEWED_HERE, add_explained
from extender.server.fleet import REVIEWED_AS, add_fleet
from extender.server.limits import Limits
from extender.server.listener import listening
from extender.server.ordered import UNDER_WAY, add_ordered
from extender.server.page import PAGE, add_page
from extender.server.proposed import MOST_BYTES, POLICY, add_proposed
from extender.server.routes import LIMITS, SERVICE, add_probes, refuse_malformed
from extender.server.shadowed import Told, add_shadowed, none
from extender.server.surveyed import BASELINE, add_surveyed
from extender.service import Service
from extender.service.ports import ClusterUnavailable
from extender.service.reading import reading
from extender.service.reviewer import Access, Reviewer

log = structlog.get_logger()

CONNECTIONS = 96  # a few Prometheus servers, and people: each page that is open takes one

REVIEWED_ITSELF = REVIEWED_HERE | {MOVES, UNDER_WAY, POLICY, BASELINE}
"""Paths that review what somebody may see themselves, not whether they may GET them."""

OPEN = frozenset(("/healthz", "/readyz", *PAGE))
"""What anybody may have: it tells nothing of the cluster."""


async def _metrics(request: web.Request) -> web.Response:
    """Render in a thread, from what is known now: at 5,000 nodes it takes longer than a hook."""
    knowledge = request.app[SERVICE].knowledge
    knowledge.work.fleet.look(reading(knowledge))
    accept = request.headers.get("Accept", "")
    body, media_type = await asyncio.to_thread(exposition, knowledge.work.registry, accept)
    return web.Response(body=body, headers={"Content-Type": media_type})


@web.middleware
async def _who_may(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    reviewer = request.app[REVIEWER]
    if reviewer is None or request.path in OPEN or request.path in REVIEWED_ITSELF:
        return await handler(request)
    path = REVIEWED_AS.get(request.path, request.path)
    try:
        access = await reviewer.may_get(token_of(request), path)
    except ClusterUnavailable as error:
        log.warning("review_unavailable", path=request.path, error=str(error))
        raise web.HTTPServiceUnavailable(text="cannot ask the API server who you are\n") from error
    match access:
        case Access.ALLOWED:
            return await handler(request)
        case Access.FORBIDDEN:
            raise web.HTTPForbidden(
                text=f"you may not GET {path}: bind a ClusterRole with it among its"
                " nonResourceURLs\n"
            )
        case Access.UNKNOWN:
            raise web.HTTPUnauthorized(
                text="show a bearer token of this cluster\n",
                headers={"WWW-Authenticate": 'Bearer realm="tangram"'},
            )


@asynccontextmanager
async def desk(
    service: Service,
    *,
    reviewer: Reviewer | None,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: Certificates | None = None,
    limits: Limits | None = None,
    shadow: Told = none,
) -> AsyncIterator[str]:
    """Open the desk and yield its URL; port 0 takes a free one. *shadow* tells how one stands.

    Raises:
        OSError: the address cannot be had.
    """
    limits = limits or Limits(connections=CONNECTIONS)
    app = web.Application(middlewares=[refuse_malformed, _who_may], client_max_size=MOST_BYTES + 1)
    app[SERVICE] = service
    app[LIMITS] = limits
    app[REVIEWER] = reviewer
    app.router.add_get("/metrics", _metrics)
    add_explained(app)
    add_advised(app)
    add_proposed(app)
    add_surveyed(app)
    add_shadowed(app, shadow)
    add_ordered(app)
    add_fleet(app)
    add_page(app)
    add_probes(app)
    runner = web.AppRunner(app, shutdown_timeout=limits.shutdown_seconds)
    await runner.setup()
    assert runner.server is not None  # it was set up
    try:
        async with listening(runner.server, limits, tls, host=host, port=port) as bound:
            yield f"{'https' if tls else 'http'}://{host}:{bound}"
    finally:
        await runner.cleanup()
