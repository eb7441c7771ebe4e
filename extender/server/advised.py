"""Advice on moves, for people and their programs; nothing is moved.

It is for whoever may list GpuNodes, and so sees where everything is; of the VMs by name it tells
where one may get the pods.
"""

from __future__ import annotations

import structlog
from aiohttp import web

from extender.advice import Advice, Asked, Misstated
from extender.advice.veil import namespaces, veiled
from extender.server.access import REVIEWER, token_of
from extender.server.explained import RETRY, json, let_in, reviewed, warm
from extender.server.routes import SERVICE, connection
from extender.service.ports import ClusterUnavailable
from extender.service.reviewer import Access, Reviewer

log = structlog.get_logger()

MOVES = "/api/v1/moves"

NO_ADVICE = "the policy has moves.mode: off, so no plan is made\n"


def add_advised(app: web.Application) -> None:
    """Add the route; the application needs its ``SERVICE`` and ``REVIEWER``."""
    app.router.add_get(MOVES, _moves, allow_head=False)


async def _moves(request: web.Request) -> web.Response:
    reviewer, token = request.app[REVIEWER], token_of(request)
    if reviewer is not None:
        access = await reviewed(reviewer.may_list_gpu_nodes(token))
        let_in(access, "list gpunodes.tangram.dev: ask for a ClusterRole")
    connection(request).body_received()
    try:
        asked = Asked.of({key: request.query.getall(key) for key in request.query})
    except Misstated as error:
        raise web.HTTPBadRequest(text=f"{error}\n") from error
    warm(request)
    if not request.app[SERVICE].knowledge.in_force.moving.advises:
        raise web.HTTPForbidden(text=NO_ADVICE)
    try:
        advice = await request.app[SERVICE].advisor.advise(asked)
    except TimeoutError:
        raise web.HTTPServiceUnavailable(text="no plan in time\n", headers=RETRY) from None
    except ClusterUnavailable as error:
        log.warning("budgets_unavailable", error=str(error))
        raise web.HTTPServiceUnavailable(
            text="cannot find out who may be evicted\n", headers=RETRY
        ) from error
    if reviewer is not None:
        advice = await _as_seen(reviewer, token, advice)
    return json(advice)


async def _as_seen(reviewer: Reviewer, token: str, advice: Advice) -> Advice:
    if await reviewed(reviewer.may_list_pods(token, "")) is Access.ALLOWED:
        return advice
    known = {
        each
        for each in sorted(namespaces(advice))
        if await reviewed(reviewer.may_get_pods(token, each)) is Access.ALLOWED
    }
    return veiled(advice, known.__contains__)
