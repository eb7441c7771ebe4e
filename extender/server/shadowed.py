"""The policy beside the live one: how it stands, and what it has shown.

It is for whoever may see the fleet. Whose VMs were refused, and what is wrong with its policy's
file, which quotes that, is told who may list all pods.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from aiohttp import web

from extender.server.access import sight_of
from extender.server.explained import json
from extender.server.routes import connection
from extender.shadow.document import Standing, State

SHADOW = "/api/v1/shadow"

A_FAULT = "it has a fault, which the extender's log tells"
"""What is said of a fault to whoever may not list all pods."""

Told = Callable[[], Standing]
"""How a shadow stands, whenever somebody asks."""

_TOLD: web.AppKey[Told] = web.AppKey("shadow-told")


def none() -> Standing:
    """Return how a shadow stands where there can be none."""
    return Standing(state=State.NONE)


def add_shadowed(app: web.Application, told: Told) -> None:
    """Add the route; the application needs its ``REVIEWER``."""
    app[_TOLD] = told
    app.router.add_get(SHADOW, _shadow, allow_head=False)


async def _shadow(request: web.Request) -> web.Response:
    sight = await sight_of(request)
    connection(request).body_received()
    standing = request.app[_TOLD]()
    return json(standing if sight.namespaces is None else _without_names(standing))


def _without_names(standing: Standing) -> Standing:
    """Return how a shadow stands without whose VMs were refused, and what its file says."""
    evidence = standing.evidence
    if evidence is not None:
        evidence = msgspec.structs.replace(evidence, tenants={})
    fault = A_FAULT if standing.fault else ""
    return msgspec.structs.replace(standing, evidence=evidence, fault=fault)
