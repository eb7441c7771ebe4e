"""The admission webhook's door: the API server asks here whether a pod may be created.

Each replica answers, leading or not, from the question alone. The API server shows no certificate
of its own, so anybody may ask, and learns nothing by it. Pods are small: what is large, and takes
long to read, must not hold up the hooks, which are answered by the same loop.

An API server goes on asking on the connections it has, though the Service does not name this
replica any more. It repeats no question that it has begun to write on a connection closed under it:
the pod is refused. So the last answers say ``Connection: close``, and whoever has had one asks
another replica; closed by us are those connections alone that were not used meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import assert_never

from aiohttp import web

from extender import wire
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
from extender.server.turns import Turns

PATH = "/pods"

SCHEDULERS: web.AppKey[Schedulers] = web.AppKey("schedulers", Schedulers)
LIMITS: web.AppKey[Limits] = web.AppKey("limits", Limits)
TURNS: web.AppKey[Turns] = web.AppKey("turns", Turns)
PARTING: web.AppKey[asyncio.Event] = web.AppKey("parting", asyncio.Event)

CONNECTIONS = 64  # an API server keeps a few, each answered within a millisecond
BODY_SECONDS = 5.0  # the API server itself waits no longer: timeoutSeconds of its configuration

BODY_LIMIT_BYTES = 1024 * 1024
"""The largest question. A launcher's pod is some 20 kB; one of ours above this is refused."""

SMALL_BYTES = 64 * 1024
"""Up to this size a question is answered at once: in 5 ms at most, whatever is in it (measured)."""

PARTING_SECONDS = 1.0
"""How long the last answers are given. Whoever asks rarely enough not to ask meanwhile will hardly
do so in the millisecond in which the connection closes. New connections hardly come any more: that
a replica is going the Service is told long before (``preStop``)."""

SHARE = 0.1
"""Of the loop's time, for all larger questions together: one holds it for 80 ms at most."""


async def _pods(request: web.Request) -> web.Response:
    patience = request.app[LIMITS].body_seconds
    body = await read_body(request, BODY_LIMIT_BYTES, patience)
    if len(body) <= SMALL_BYTES:
        return _answered(request, body)
    try:
        async with request.app[TURNS].turn(patience):
            return _answered(request, body)
    except TimeoutError:
        connection(request).sparse.warning("large_question_refused", bytes=len(body))
        raise web.HTTPServiceUnavailable(text="too many large questions\n") from None


def _answered(request: web.Request, body: bytes) -> web.Response:
    review = wire.decode(body, AdmissionReview)
    verdict = judge(review.request.object, request.app[SCHEDULERS])
    match verdict:
        case NotOurs():
            said = answer(review)
        case Admitted(changes):
            said = answer(review, changes=changes)
        case Refused(reason):
            namespace = review.request.namespace[:63]
            connection(request).sparse.warning("pod_refused", namespace=namespace, reason=reason)
            said = answer(review, refusal=reason)
        case _:
            assert_never(verdict)
    return web.Response(body=said, content_type="application/json")


async def _part(request: web.Request, response: web.StreamResponse) -> None:
    """Let no connection outlive one of the last answers."""
    if request.app[PARTING].is_set():
        response.headers["Connection"] = "close"  # what aiohttp says of it is written already
        response.force_close()


async def last_answers() -> None:
    """Wait for as long as the last answers are given."""
    await asyncio.sleep(PARTING_SECONDS)


def application(schedulers: Schedulers, limits: Limits, share: float) -> web.Application:
    """Return the application of the webhook alone."""
    app = web.Application(middlewares=[refuse_malformed], client_max_size=BODY_LIMIT_BYTES)
    app[SCHEDULERS] = schedulers
    app[LIMITS] = limits
    app[TURNS] = Turns(share)
    app[PARTING] = asyncio.Event()
    app.on_response_prepare.append(_part)
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
    share: float = SHARE,
    parting: Callable[[], Awaitable[object]] | None = None,
) -> AsyncIterator[str]:
    """Answer the API server and yield the webhook's URL; port 0 takes a free one.

    Large questions have a *share* of the loop's time. When the block ends, questions are answered
    until *parting* returns, each the last on its connection; not if it ends in an error.

    Raises:
        OSError: the address cannot be had.
    """
    limits = limits or Limits(connections=CONNECTIONS, body_seconds=BODY_SECONDS)
    app = application(schedulers, limits, share)
    runner = web.AppRunner(app, shutdown_timeout=limits.shutdown_seconds)
    await runner.setup()
    assert runner.server is not None  # it was set up
    try:
        async with listening(runner.server, limits, tls, host=host, port=port) as bound:
            yield f"{'https' if tls else 'http'}://{host}:{bound}{PATH}"
            if parting is not None:
                app[PARTING].set()
                await parting()
    finally:
        await runner.cleanup()
