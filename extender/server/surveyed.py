"""The fleet as it stands with the demand so far: what ``tangram simulate --from cluster`` asks for.

It is for whoever may list GpuNodes, which tell as much: of VMs it names none.
"""

from __future__ import annotations

from aiohttp import web

from extender.server.access import REVIEWER, token_of
from extender.server.explained import RETRY, json, let_in, reviewed, warm
from extender.server.packed import VARIES, pack
from extender.server.routes import SERVICE, connection

BASELINE = "/api/v1/baseline"


def add_surveyed(app: web.Application) -> None:
    """Add the route; the application needs its ``SERVICE`` and ``REVIEWER``."""
    app.router.add_get(BASELINE, _baseline, allow_head=False)


async def _baseline(request: web.Request) -> web.Response:
    reviewer = request.app[REVIEWER]
    if reviewer is not None:
        access = await reviewed(reviewer.may_list_gpu_nodes(token_of(request)))
        let_in(access, "list gpunodes.tangram.dev: ask for a ClusterRole")
    connection(request).body_received()
    warm(request)
    try:
        response = json(await request.app[SERVICE].surveyor.baseline())
    except TimeoutError:
        raise web.HTTPServiceUnavailable(text="too many ask\n", headers=RETRY) from None
    response.headers.update(VARIES)
    pack(request, response)
    return response
