"""Who looks at the desk, and what they may see."""

from __future__ import annotations

from aiohttp import web

from extender.service.ports import Reviewer

REVIEWER: web.AppKey[Reviewer | None] = web.AppKey("reviewer")

PASSED_ON = "X-Tangram-Authorization"
"""An Authorization header that came by the API server's proxy, which keeps the real one."""


def token_of(request: web.Request) -> str:
    """Return the bearer token that a request shows, "" if it shows none."""
    shown = request.headers.get("Authorization", "") or request.headers.get(PASSED_ON, "")
    scheme, _, token = shown.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
