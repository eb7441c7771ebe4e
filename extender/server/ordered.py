"""Plans of moves applied, looked after and stopped, for people and their programs.

They are applied and stopped by whoever may ``move`` GpuNodes; how far they have come is for whoever
may list these, and of the VMs by name it tells where one may get the pods.
"""

from __future__ import annotations

import msgspec
import structlog
from aiohttp import web

from extender.advice import Asked, Misstated
from extender.moving import Order
from extender.moving.document import Underway, namespaces, told, veiled
from extender.server.access import REVIEWER, token_of
from extender.server.explained import RETRY, json, let_in, reviewed, warm
from extender.server.routes import SERVICE, read_body
from extender.service.moving import Moving
from extender.service.ordering import NotApplied
from extender.service.ports import ClusterUnavailable
from extender.service.relocation import OrderChanged
from extender.service.reviewer import Access

log = structlog.get_logger()

ORDERS = "/api/v1/moves"
UNDER_WAY = "/api/v1/moves/under-way"

MOST_BYTES = 256 * 1024
PATIENCE_SECONDS = 10.0
SOMEBODY = "somebody"


class Application(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is posted: goals as the parameters of the query for advice, and the plan's digest."""

    goals: dict[str, tuple[str, ...]]
    digest: str


_APPLICATION = msgspec.json.Decoder(Application)


def add_ordered(app: web.Application) -> None:
    """Add the routes; the application needs its ``SERVICE`` and ``REVIEWER``."""
    app.router.add_post(ORDERS, _apply)
    app.router.add_get(UNDER_WAY, _under_way, allow_head=False)
    app.router.add_delete(UNDER_WAY, _stop)


async def _apply(request: web.Request) -> web.Response:
    by = await _mover(request)
    if request.content_type != "application/json":  # which no page of another site can send
        raise web.HTTPUnsupportedMediaType(text="send application/json\n")
    body = await read_body(request, MOST_BYTES, PATIENCE_SECONDS)
    try:
        application = _APPLICATION.decode(body)
        asked = Asked.of(application.goals)
    except (msgspec.MsgspecError, Misstated) as error:
        raise web.HTTPBadRequest(text=f"{error}\n") from error
    _leading(request)
    ordering = request.app[SERVICE].ordering
    if ordering is None:
        raise web.HTTPNotImplemented(text="nothing is moved here\n")
    try:
        order = await ordering.apply(asked, application.digest, by=by)
    except NotApplied as error:
        raise web.HTTPConflict(text=f"{error}\n") from error
    except TimeoutError:
        raise web.HTTPServiceUnavailable(text="no plan in time\n", headers=RETRY) from None
    except ClusterUnavailable as error:
        raise _unknown(error) from error
    return json(await _as_seen(request, order))


async def _under_way(request: web.Request) -> web.Response:
    reviewer = request.app[REVIEWER]
    if reviewer is not None:
        access = await reviewed(reviewer.may_list_gpu_nodes(token_of(request)))
        let_in(access, "list gpunodes.tangram.dev: ask for a ClusterRole")
    try:
        order = await _moving(request).order()
    except ClusterUnavailable as error:
        raise _unknown(error) from error
    return json(await _as_seen(request, order))


async def _stop(request: web.Request) -> web.Response:
    by = await _mover(request)
    _leading(request)
    try:
        order = await _moving(request).stop(f"{by or SOMEBODY} has stopped it")
    except OrderChanged as error:
        text = "it has just come a step further: try again\n"
        raise web.HTTPServiceUnavailable(text=text, headers=RETRY) from error
    except ClusterUnavailable as error:
        raise _unknown(error) from error
    return json(await _as_seen(request, order))


async def _mover(request: web.Request) -> str:
    """Let in who may move; return their name, "" where nobody is asked for it."""
    reviewer = request.app[REVIEWER]
    if reviewer is None:
        return ""
    token = token_of(request)
    access = await reviewed(reviewer.may_move(token))
    let_in(access, "move gpunodes.tangram.dev: ask for the ClusterRole tangram-mover, or one")
    return await reviewed(reviewer.who(token))


def _leading(request: web.Request) -> None:
    warm(request)
    why_not = request.app[SERVICE].knowledge.not_ready()
    if why_not:
        raise web.HTTPServiceUnavailable(text=f"{why_not}\n", headers=RETRY)


def _moving(request: web.Request) -> Moving:
    moving = request.app[SERVICE].moving
    if moving is None:
        raise web.HTTPNotImplemented(text="nothing is moved here\n")
    return moving


def _unknown(error: ClusterUnavailable) -> web.HTTPServiceUnavailable:
    log.warning("order_unavailable", error=str(error))
    text = f"the API server has not done it: {error}; see what is under way\n"
    return web.HTTPServiceUnavailable(text=text, headers=RETRY)


async def _as_seen(request: web.Request, order: Order | None) -> Underway:
    said = told(None)
    if order is not None:
        moving = _moving(request)
        said = told(order, moving.waits(order), moving.held_up(order))
    reviewer, token = request.app[REVIEWER], token_of(request)
    if reviewer is None or await reviewed(reviewer.may_list_pods(token, "")) is Access.ALLOWED:
        return said
    known = {
        each
        for each in sorted(namespaces(said))
        if await reviewed(reviewer.may_get_pods(token, each)) is Access.ALLOWED
    }
    return veiled(said, known.__contains__)
