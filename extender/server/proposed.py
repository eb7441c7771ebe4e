"""A policy file held against what is known here; the policy in force stays as it is.

It is for whoever may list GpuNodes and all pods: it tells of nodes, of namespaces, and of pods in
counts.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from aiohttp import web

from extender.outlook import There, outlook
from extender.policy.file import MalformedPolicy, parsed
from extender.server.access import REVIEWER, token_of
from extender.server.explained import RETRY, json, let_in, reviewed, warm
from extender.server.routes import LIMITS, SERVICE, read_body
from extender.service.knowledge import Knowledge

POLICY = "/api/v1/policy"

MOST_BYTES = 1 << 20
"""Of a file: no ConfigMap holds more."""

WITHIN_SECONDS = 25.0
"""For one, with those before it; the command line waits 30 s."""

YAML = "application/yaml"
"""What is sent must be said to be: no page of another site may send that unasked."""

_ONE: web.AppKey[asyncio.Lock] = web.AppKey("one-policy", asyncio.Lock)
_THREAD: web.AppKey[ThreadPoolExecutor] = web.AppKey("thread-of-policies", ThreadPoolExecutor)
"""The only one: whose time is up may keep it, and nothing else that is done in threads."""


def add_proposed(app: web.Application) -> None:
    """Add the route; the application needs its ``SERVICE``, ``REVIEWER`` and ``LIMITS``."""
    app[_ONE] = asyncio.Lock()
    app[_THREAD] = ThreadPoolExecutor(1, "policy")
    app.on_cleanup.append(_end)
    app.router.add_post(POLICY, _policy)


async def _end(app: web.Application) -> None:
    app[_THREAD].shutdown(wait=False, cancel_futures=True)


async def _policy(request: web.Request) -> web.Response:
    reviewer, token = request.app[REVIEWER], token_of(request)
    if reviewer is not None:
        access = await reviewed(reviewer.may_list_gpu_nodes(token))
        let_in(access, "list gpunodes.tangram.dev: ask for a ClusterRole")
        access = await reviewed(reviewer.may_list_pods(token, ""))
        let_in(access, "list the pods of all namespaces: ask for a ClusterRole")
    if request.content_type != YAML:
        raise web.HTTPUnsupportedMediaType(text=f"send a policy file as {YAML}\n")
    body = await read_body(request, MOST_BYTES, request.app[LIMITS].body_seconds)
    warm(request)
    work = partial(asyncio.get_running_loop().run_in_executor, request.app[_THREAD])
    try:
        async with asyncio.timeout(WITHIN_SECONDS), request.app[_ONE]:
            file = await work(parsed, body, "the policy")
            there = known(request.app[SERVICE].knowledge)
            return json(await work(outlook, there, file.in_force))
    except MalformedPolicy as error:
        raise web.HTTPBadRequest(text=f"{error}\n") from error
    except TimeoutError:
        raise web.HTTPServiceUnavailable(text="too many ask\n", headers=RETRY) from None


def known(knowledge: Knowledge) -> There:
    """Return what is known at this moment, for a thread to work with."""
    return There(
        dict(knowledge.views),
        dict(knowledge.labels),
        dict(knowledge.tenancy.namespaces),
        knowledge.pods.copy(),
        dict(knowledge.pending.waiting),
        knowledge.ledger,
        knowledge.in_force,
    )
