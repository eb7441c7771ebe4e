"""The fleet as it stands with the demand so far: what ``tangram simulate --from cluster`` asks for.

It is for whoever may list GpuNodes, which tell as much: of VMs it names none.
"""

from __future__ import annotations

from aiohttp import web

from extender.server.explained import about_all_nodes
from extender.server.routes import SERVICE

BASELINE = "/api/v1/baseline"


def add_surveyed(app: web.Application) -> None:
    """Add the route; the application needs its ``SERVICE`` and ``REVIEWER``."""
    app.router.add_get(BASELINE, _baseline, allow_head=False)


async def _baseline(request: web.Request) -> web.Response:
    return await about_all_nodes(request, request.app[SERVICE].surveyor.baseline)
