"""The admission webhook's door: the API server asks here whether a pod may be created.

Each replica answers, leading or not, from the question alone. The API server shows no certificate
of its own, so anybody may ask, and learns nothing by it: there is little room, and small bodies.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import assert_never

from aiohttp import web

from extender.admission import (
    AdmissionReview,
    Admitted,
    NotOurs,
    Refused,
    Schedulers,
    answer,
    judge,
)
from extender.server.certificates import Certificates
from extender.server.limits import Limits
from extender.server.listener import listening
from extender.server.routes import connection, read_body, refuse_malformed

PATH = "/pods"

SCHEDULERS: web.AppKey[Schedulers] = web.AppKey("schedulers", Schedulers)
LIMITS: web.AppKey[Limits] = web.AppKey("limits", Limits)

CONNECTIONS = 64  # an API server keeps a few, each answered within a millisecond
BODY_SECONDS = 5.0  # the API server itself waits no longer: timeoutSeconds of its configuration

BODY_LIMIT_BYTES = 4 * 1024 * 1024
"""The largest question. etcd takes objects of 1.5 MiB; JSON's escapes can make a pod longer, and
one of ours that became longer than this is refused. The memory there is holds 64 at once."""


async def _pods(request: web.Request) -> web.Response:
    patience = request.app[LIMITS].body_seconds
    review = await read_body(request, AdmissionReview, BODY_LIMIT_BYTES, patience)
    verdict = judge(review.request.object, request.app[SCHEDULERS])
    match verdict:
        case NotOurs():
            body = answer(review)
        case Admitted(changes):
            body = answer(review, changes=changes)
        case Refused(reason):
            namespace = review.request.namespace[:63]
            connection(request).sparse.warning("pod_refused", namespace=namespace, reason=reason)
            body = answer(review, refusal=reason)
        case _:
            assert_never(verdict)
    return web.Response(body=body, content_type="application/json")


def application(schedulers: Schedulers, limits: Limits) -> web.Application:
    """Return the application of the webhook alone."""
    app = web.Application(middlewares=[refuse_malformed], client_max_size=BODY_LIMIT_BYTES)
    app[SCHEDULERS] = schedulers
    app[LIMITS] = limits
    app.router.add_post(PATH, _pods)
    return app


@asynccontextmanager
async def admitting(
    schedulers: Schedulers,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: Certificates | None = None,
    limits: Limits | None = None,
) -> AsyncIterator[str]:
    """Answer the API server and yield the webhook's URL; port 0 takes a free one.

    Raises:
        OSError: the address cannot be had.
    """
    limits = limits or Limits(connections=CONNECTIONS, body_seconds=BODY_SECONDS)
    runner = web.AppRunner(
        application(schedulers, limits), shutdown_timeout=limits.shutdown_seconds
    )
    await runner.setup()
    assert runner.server is not None  # it was set up
    try:
        async with listening(runner.server, limits, tls, host=host, port=port) as bound:
            yield f"{'https' if tls else 'http'}://{host}:{bound}{PATH}"
    finally:
        await runner.cleanup()
