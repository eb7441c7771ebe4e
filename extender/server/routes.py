"""What is answered under which path.

Answers are JSON with a Content-Length, so Go's client keeps its connection. What cannot be decided
yet is an ``Error`` in a 200 answer, which the scheduler retries by time; a body that is not what
the verb takes is a 4xx, and changes nothing.
"""

from __future__ import annotations

import contextlib
import logging
from asyncio import timeout
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from aiohttp import web

from extender import wire
from extender.metrics import Outcome, Verb
from extender.server.connection import Connection
from extender.server.description import describe
from extender.server.limits import Limits
from extender.service import Service

log = structlog.get_logger()

SERVICE: web.AppKey[Service] = web.AppKey("service", Service)
LIMITS: web.AppKey[Limits] = web.AppKey("limits", Limits)
CLIENTS: web.AppKey[frozenset[str]] = web.AppKey("clients", frozenset)
DESCRIPTION: web.AppKey[bytes] = web.AppKey("description", bytes)

MOST_TEXT = 300  # of what a client sent, in an answer or a log event

_T = TypeVar("_T")


async def _filter(request: web.Request) -> web.Response:
    args = await _read(request, wire.ExtenderArgs)
    service = request.app[SERVICE]
    began = service.knowledge.clock()
    answer = service.hooks.filter(args)
    passed = answer.node_names or (answer.nodes is not None and answer.nodes["items"])
    seconds = _note(service, Verb.FILTER, began, error=answer.error, refused=not passed)
    log.debug(
        "filter_answered",
        **_about(service, args.pod, seconds),
        passed=len(passed or ()),
        refused=len(answer.failed_and_unresolvable_nodes),
        error=answer.error,
    )
    return _answer(request, answer)


async def _prioritize(request: web.Request) -> web.Response:
    args = await _read(request, wire.ExtenderArgs)
    service = request.app[SERVICE]
    began = service.knowledge.clock()
    answer = service.hooks.prioritize(args)
    seconds = _note(service, Verb.PRIORITIZE, began)
    if log.is_enabled_for(logging.DEBUG):  # of thousands of nodes none is looked at in vain
        log.debug(
            "prioritize_answered",
            **_about(service, args.pod, seconds),
            winner=max(answer, key=lambda each: each.score).host if answer else "",
        )
    return _answer(request, answer)


async def _preempt(request: web.Request) -> web.Response:
    args = await _read(request, wire.PreemptionArgs)
    service = request.app[SERVICE]
    began = service.knowledge.clock()
    answer = service.hooks.preempt(args)
    found = answer.node_name_to_meta_victims
    seconds = _note(service, Verb.PREEMPT, began, refused=not found)
    log.info("preempt_answered", **_about(service, args.pod, seconds), nodes=len(found))
    return _answer(request, answer)


async def _bind(request: web.Request) -> web.Response:
    args = await _read(request, wire.BindingArgs)
    connection(request).give_way()  # a bind waits for the API server and for an agent
    service = request.app[SERVICE]
    began = service.knowledge.clock()
    answer = await service.binder.bind(args)
    _note(service, Verb.BIND, began, error=answer.error)
    return _answer(request, answer)


def _note(
    service: Service, verb: Verb, began: float, *, error: str = "", refused: bool = False
) -> float:
    """Count and time an answer, and return the seconds it took."""
    outcome = Outcome.ERROR if error else Outcome.REFUSED if refused else Outcome.ANSWERED
    seconds = service.knowledge.clock() - began
    service.knowledge.work.hook(verb, outcome, seconds)
    return seconds


def _about(service: Service, pod: wire.Pod, seconds: float) -> dict[str, object]:
    """Return what the log line of every decision about a pod says."""
    return {
        "pod": pod.metadata.name,
        "namespace": pod.metadata.namespace,
        "uid": pod.metadata.uid,
        "policy_version": service.knowledge.in_force.version,
        "seconds": round(seconds, 6),
    }


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


async def _description(request: web.Request) -> web.Response:
    return web.Response(body=request.app[DESCRIPTION], content_type="application/json")


async def _read(request: web.Request, shape: type[_T]) -> _T:
    _admit(request)
    limit = request.app[SERVICE].settings.body_limit_bytes
    return wire.decode(await read_body(request, limit, request.app[LIMITS].body_seconds), shape)


async def read_body(request: web.Request, limit: int, patience: float) -> bytes:
    """Read a body of at most *limit* bytes that comes within *patience* seconds."""
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise web.HTTPUnsupportedMediaType(text="send the body as it is, without encoding\n")
    if (request.content_length or 0) > limit:
        raise _closing(web.HTTPRequestEntityTooLarge(limit, text=f"above {limit} bytes\n"))
    try:
        # A timeout has its price, and most bodies have come with their head.
        async with contextlib.nullcontext() if request.content.is_eof() else timeout(patience):
            body = await request.read()
    except (web.RequestPayloadError, ConnectionError) as error:
        raise wire.MalformedRequest(f"not a whole body: {error}") from error
    except TimeoutError:
        connection(request).sparse.warning("slow_body_refused", verb=request.path)
        late = web.HTTPRequestTimeout(text=f"no whole body within {patience:g} s\n")
        raise _closing(late) from None
    connection(request).body_received()
    return body


def _closing(refusal: web.HTTPException) -> web.HTTPException:
    """Close the connection after *refusal*: the rest of the body is not waited for."""
    refusal.force_close()
    return refusal


def _admit(request: web.Request) -> None:
    """Refuse a client whose certificate has none of the names that may call."""
    allowed = request.app[CLIENTS]
    if not allowed:
        return
    names = connection(request).client_names
    if names.isdisjoint(allowed):
        shown = ", ".join(sorted(names))[:MOST_TEXT] or "none"
        connection(request).sparse.warning("client_refused", verb=request.path, names=shown)
        raise web.HTTPForbidden(text=f"no --client-name allows this certificate ({shown})\n")


def connection(request: web.Request) -> Connection:
    """Return the connection that a request came by."""
    found = request.protocol
    assert isinstance(found, Connection)  # the listener makes no others
    return found


def _answer(request: web.Request, answer: object) -> web.Response:
    """Answer, and close the connection while not ready: the next replica may be."""
    response = web.Response(body=wire.encode(answer), content_type="application/json")
    if request.app[SERVICE].knowledge.not_ready():
        response.force_close()
    return response


@web.middleware
async def refuse_malformed(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Note that the head has come, and answer 400 to what cannot be read."""
    connection(request).head_received()
    try:
        return await handler(request)
    except wire.MalformedRequest as error:
        text = str(error)[:MOST_TEXT]
        connection(request).sparse.warning("malformed_request", verb=request.path, error=text)
        return web.Response(text=f"{text}\n", status=400)


def application(
    service: Service, *, prefix: str, clients: frozenset[str], limits: Limits
) -> web.Application:
    """Return the application; *prefix* is the path of ``urlPrefix`` in the scheduler's file.

    Only *clients* may call the hooks, by a name in their certificates; everybody if none is given.
    """
    app = web.Application(
        middlewares=[refuse_malformed], client_max_size=service.settings.body_limit_bytes
    )
    app[SERVICE] = service
    app[LIMITS] = limits
    app[CLIENTS] = clients
    app[DESCRIPTION] = wire.encode(describe(prefix))
    app.router.add_post(f"{prefix}/filter", _filter)
    app.router.add_post(f"{prefix}/prioritize", _prioritize)
    app.router.add_post(f"{prefix}/preempt", _preempt)
    app.router.add_post(f"{prefix}/bind", _bind)
    add_probes(app)
    app.router.add_get("/openapi.json", _description)
    return app


def probes(service: Service) -> web.Application:
    """Return the application of the probes alone."""
    app = web.Application(middlewares=[refuse_malformed])
    app[SERVICE] = service
    add_probes(app)
    return app


def add_probes(app: web.Application) -> None:
    """Add the probes, which need the application's ``SERVICE``."""
    app.router.add_get("/healthz", _healthz)
    app.router.add_get("/readyz", _readyz)
