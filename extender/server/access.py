"""Who looks at the desk, and what they may see."""

from __future__ import annotations

from aiohttp import web

from extender.overview import EVERYTHING, Sight
from extender.service.ports import ClusterUnavailable
from extender.service.reviewer import Access, Reviewer

REVIEWER: web.AppKey[Reviewer | None] = web.AppKey("reviewer")

PASSED_ON = "X-Tangram-Authorization"
"""An Authorization header that came by the API server's proxy, which keeps the real one."""

MOST_NAMESPACES = 16
"""That a reader may name: each costs the API server a review, now and then."""


def token_of(request: web.Request) -> str:
    """Return the bearer token that a request shows, "" if it shows none."""
    shown = request.headers.get("Authorization", "") or request.headers.get(PASSED_ON, "")
    scheme, _, token = shown.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


async def sight_of(request: web.Request) -> Sight:
    """Return what whoever asks may see.

    That is everything for who may list all pods; otherwise the VMs of those namespaces, among the
    ``namespace`` parameters, whose pods they may list.

    Raises:
        web.HTTPBadRequest: too many namespaces.
        web.HTTPServiceUnavailable: the API server did not say.
    """
    reviewer = request.app[REVIEWER]
    if reviewer is None:
        return EVERYTHING
    token, named = token_of(request), set(request.query.getall("namespace", ()))
    if len(named) > MOST_NAMESPACES:
        raise web.HTTPBadRequest(text=f"name at most {MOST_NAMESPACES} namespaces\n")
    try:
        if await reviewer.may_list_pods(token, "") is Access.ALLOWED:
            return EVERYTHING
        allowed = {
            each
            for each in sorted(named)
            if each and await reviewer.may_list_pods(token, each) is Access.ALLOWED
        }
    except ClusterUnavailable as error:
        raise web.HTTPServiceUnavailable(
            text="cannot ask the API server what you may see\n"
        ) from error
    return Sight(frozenset(allowed))
