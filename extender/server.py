"""The hooks' HTTP door: kube-scheduler asks here.

Answers are JSON with a Content-Length, so Go's client keeps its connection. What cannot be decided
yet is an ``Error`` in a 200 answer, which the scheduler retries by time; a body that is not what
the verb takes is a 4xx, and changes nothing.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import structlog
from aiohttp import web

from extender import wire
from extender.service import Service

log = structlog.get_logger()

# Above the 90 s for which Go keeps an idle connection: it does not repeat a POST on a closed one.
KEEPALIVE_SECONDS = 150.0
SHUTDOWN_SECONDS = 5.0

SERVICE: web.AppKey[Service] = web.AppKey("service", Service)

_T = TypeVar("_T")


async def _filter(request: web.Request) -> web.Response:
    args = await _read(request, wire.ExtenderArgs)
    answer = request.app[SERVICE].hooks.filter(args)
    log.debug(
        "filter_answered",
        pod=args.pod.metadata.name,
        namespace=args.pod.metadata.namespace,
        refused=len(answer.failed_and_unresolvable_nodes),
        error=answer.error,
    )
    return _answer(request, answer)


async def _prioritize(request: web.Request) -> web.Response:
    args = await _read(request, wire.ExtenderArgs)
    return _answer(request, request.app[SERVICE].hooks.prioritize(args))


async def _preempt(request: web.Request) -> web.Response:
    args = await _read(request, wire.PreemptionArgs)
    return _answer(request, request.app[SERVICE].hooks.preempt(args))


async def _bind(request: web.Request) -> web.Response:
    args = await _read(request, wire.BindingArgs)
    return _answer(request, await request.app[SERVICE].binder.bind(args))


async def _healthz(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def _readyz(request: web.Request) -> web.Response:
    """Tell whether the hooks are answered here; with ``?standby=ok``, whether they could be.

    A replica that waits for its turn is as ready as it can be: were it never ready in Kubernetes'
    eyes, rolling updates would wait for it for ever, and no node with the leader could be drained.
    """
    knowledge = request.app[SERVICE].knowledge
    if request.query.get("standby") == "ok":
        why_not = knowledge.not_warm()
    else:
        why_not = knowledge.not_ready()
    leader = knowledge.tenure.leader
    who = f" ({leader} leads)" if why_not and leader else ""
    return web.Response(text=f"{why_not or 'ok'}{who}\n", status=503 if why_not else 200)


async def _read(request: web.Request, shape: type[_T]) -> _T:
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise web.HTTPUnsupportedMediaType(text="send the body as it is, without encoding\n")
    return wire.decode(await request.read(), shape)


def _answer(request: web.Request, answer: object) -> web.Response:
    """Answer, and close the connection while not ready: the next replica may be."""
    response = web.Response(body=wire.encode(answer), content_type="application/json")
    if request.app[SERVICE].knowledge.not_ready():
        response.force_close()
    return response


@web.middleware
async def _refuse_malformed(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except wire.MalformedRequest as error:
        log.warning("malformed_request", verb=request.path, error=str(error)[:300])
        return web.Response(text=f"{error}\n", status=400)


def application(service: Service, *, prefix: str = "") -> web.Application:
    """Return the application; *prefix* is the path of ``urlPrefix`` in the scheduler's file."""
    app = web.Application(
        middlewares=[_refuse_malformed], client_max_size=service.settings.body_limit_bytes
    )
    app[SERVICE] = service
    app.router.add_post(f"{prefix}/filter", _filter)
    app.router.add_post(f"{prefix}/prioritize", _prioritize)
    app.router.add_post(f"{prefix}/preempt", _preempt)
    app.router.add_post(f"{prefix}/bind", _bind)
    app.router.add_get("/healthz", _healthz)
    app.router.add_get("/readyz", _readyz)
    return app


@asynccontextmanager
async def serving(
    service: Service,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    prefix: str = "",
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[str]:
    """Serve the hooks and yield their URL; port 0 takes a free one.

    When the block ends, the binds that wait are answered before the connections are closed.

    Raises:
        OSError: the address cannot be had.
    """
    runner = web.AppRunner(
        application(service, prefix=prefix),
        keepalive_timeout=KEEPALIVE_SECONDS,
        access_log=None,
        shutdown_timeout=SHUTDOWN_SECONDS,
        auto_decompress=False,  # Go sends bodies as they are; whoever does not is told so
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, ssl_context=tls, backlog=1024)
        await site.start()
        yield f"{'https' if tls else 'http'}://{host}:{_port(runner)}{prefix}"
    finally:
        service.stop()
        await runner.cleanup()


def _port(runner: web.AppRunner) -> int:
    address = runner.addresses[0]
    assert isinstance(address, tuple)  # a TCP site's is
    return int(address[1])
