"""Explanations of pods, and every node at a glance, for people and their programs.

A pod is explained to whoever may get the pods of its namespace; of other namespaces' VMs they are
told what they may get there. The nodes are for whoever may list GpuNodes, which tell as much. The
paths themselves decide nothing: Kubernetes lets everybody with a token GET whatever is below /api.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
import structlog
from aiohttp import web

from extender.explain import Explanation
from extender.explain.text import told
from extender.explain.veil import others, veiled
from extender.server.access import REVIEWER, token_of
from extender.server.packed import PACKED_AT_ONCE, VARIES, pack
from extender.server.routes import SERVICE, connection
from extender.service.ports import ClusterUnavailable
from extender.service.reviewer import Access, Reviewer

log = structlog.get_logger()

_Said = TypeVar("_Said")

EXPLAIN = "/api/v1/explain"
NODES = "/api/v1/nodes"

REVIEWED_HERE = frozenset((EXPLAIN, NODES))
"""Paths on which it is reviewed here what somebody may see, not whether they may GET them."""

LONGEST_NAME = 253  # of anything in Kubernetes
NO_STORE = {"Cache-Control": "no-store"}
RETRY = {"Retry-After": "2"}


def add_explained(app: web.Application) -> None:
    """Add the routes; the application needs its ``SERVICE`` and ``REVIEWER``."""
    app.router.add_get(EXPLAIN, _explain)
    app.router.add_get(NODES, _nodes)


async def _explain(request: web.Request) -> web.Response:
    namespace, pod = _named(request, "namespace"), _named(request, "pod")
    reviewer, token = request.app[REVIEWER], token_of(request)
    if reviewer is not None:
        access = await reviewed(reviewer.may_get_pods(token, namespace))
        let_in(access, f"get pods in namespace {namespace}: ask for a Role")
    connection(request).body_received()
    warm(request)
    try:
        said = await request.app[SERVICE].explainer.explain(namespace, pod)
    except TimeoutError:
        raise web.HTTPServiceUnavailable(text="too many ask\n", headers=RETRY) from None
    if said is None:
        raise web.HTTPNotFound(
            text=f"no pod {namespace}/{pod} is known that asks for a GPU instance; one that does"
            " has the label tangram.dev/managed\n"
        )
    if reviewer is not None:
        said = await _as_seen(reviewer, token, said)
    return json(told(said))


async def _as_seen(reviewer: Reviewer, token: str, said: Explanation) -> Explanation:
    known = {said.namespace}
    for each in sorted(others(said)):
        if await reviewed(reviewer.may_get_pods(token, each)) is Access.ALLOWED:
            known.add(each)
    return veiled(said, known.__contains__)


async def _nodes(request: web.Request) -> web.Response:
    return await about_all_nodes(request, request.app[SERVICE].explainer.roster)


async def about_all_nodes(
    request: web.Request, answer: Callable[[], Awaitable[object]]
) -> web.Response:
    """Answer, compressed if that is wanted, whoever may list GpuNodes.

    Raises:
        web.HTTPException: they may not, nothing is known yet, or too many ask.
    """
    reviewer = request.app[REVIEWER]
    if reviewer is not None:
        access = await reviewed(reviewer.may_list_gpu_nodes(token_of(request)))
        let_in(access, "list gpunodes.tangram.dev: ask for a ClusterRole")
    connection(request).body_received()
    warm(request)
    try:
        response = json(await answer())
    except TimeoutError:
        raise web.HTTPServiceUnavailable(text="too many ask\n", headers=RETRY) from None
    response.headers.update(VARIES)
    pack(request, response)
    return response


def _named(request: web.Request, parameter: str) -> str:
    value = request.query.get(parameter, "")
    if not 0 < len(value) <= LONGEST_NAME:
        raise web.HTTPBadRequest(text=f"ask for {EXPLAIN}?namespace=NAMESPACE&pod=POD\n")
    return value


def warm(request: web.Request) -> None:
    """Refuse to answer before there is anything known to answer from."""
    why_not = request.app[SERVICE].knowledge.not_warm()
    if why_not:
        raise web.HTTPServiceUnavailable(text=f"{why_not}\n", headers=RETRY)


async def reviewed(review: Awaitable[_Said]) -> _Said:
    """Return what the API server says, or answer that it did not."""
    try:
        return await review
    except ClusterUnavailable as error:
        log.warning("review_unavailable", error=str(error))
        raise web.HTTPServiceUnavailable(text="cannot ask the API server who you are\n") from error


def let_in(access: Access, what: str) -> None:
    """Let in who is allowed *what*, which ends with whom to ask for otherwise."""
    match access:
        case Access.ALLOWED:
            return
        case Access.FORBIDDEN:
            raise web.HTTPForbidden(text=f"you may not {what} that lets you\n")
        case Access.UNKNOWN:
            raise web.HTTPUnauthorized(
                text="show a bearer token of this cluster\n",
                headers={"WWW-Authenticate": 'Bearer realm="tangram"'},
            )


def json(said: object) -> web.Response:
    """Return an answer that nobody keeps."""
    return web.Response(
        body=msgspec.json.encode(said),
        content_type="application/json",
        headers=NO_STORE,
        zlib_executor_size=PACKED_AT_ONCE,
    )
