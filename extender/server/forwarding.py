"""A door on loopback for one browser, behind which is the desk of a cluster.

The browser has no credentials: they are added on the way. So whoever could use this door could use
them: only who was told its key is let in, from this machine, to nothing but what the page needs.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import structlog
from aiohttp import web

from extender.server.limits import Limits
from extender.server.listener import listening
from extender.server.page import HEADERS
from extender.server.routes import connection

log = structlog.get_logger()

HOST = "127.0.0.1"
CONNECTIONS = 32  # one browser opens six at a time for each page
PASSED = frozenset(
    (
        "Cache-Control", "Content-Type", "Cross-Origin-Opener-Policy", "Retry-After",
        "Cross-Origin-Resource-Policy", "Referrer-Policy", "X-Content-Type-Options",
    )
)  # fmt: skip
REACHABLE = ("/page/", "/api/v1/")


class Answer(Protocol):
    """What comes back."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The HTTP headers."""

    @property
    def body(self) -> AsyncIterator[bytes]:
        """The body, as it comes."""


class Beyond(Protocol):
    """How the desk is reached."""

    def get(
        self, path: str, query: str, headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[Answer]:
        """GET a path of the desk.

        Raises:
            BeyondReach: there is no answer.
        """


class BeyondReach(Exception):
    """The desk does not answer; the message says why, and what to do."""


@asynccontextmanager
async def forwarding(beyond: Beyond, *, port: int = 0) -> AsyncIterator[str]:
    """Open the door and yield the address, with its key, that lets a browser in.

    Raises:
        OSError: the port cannot be had.
    """
    key = secrets.token_urlsafe(24)
    limits = Limits(connections=CONNECTIONS)
    app = web.Application()
    door = _Door(beyond, key)
    app.router.add_get("/{path:.*}", door.answer, allow_head=False)
    runner = web.AppRunner(app, shutdown_timeout=0.5)
    await runner.setup()
    assert runner.server is not None  # it was set up
    try:
        async with listening(runner.server, limits, None, host=HOST, port=port) as bound:
            door.port = bound
            yield f"http://{HOST}:{bound}/?key={key}"
    finally:
        await runner.cleanup()


class _Door:
    def __init__(self, beyond: Beyond, key: str) -> None:
        self._beyond = beyond
        self._key = key
        self.port = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        connection(request).body_received()
        # Not by a name that somebody makes resolve to this machine: their page would be let in.
        if request.host not in (f"{HOST}:{self.port}", f"localhost:{self.port}"):
            raise web.HTTPMisdirectedRequest(text="not a name of this door\n")
        if request.path == "/" and secrets.compare_digest(
            request.query.get("key", "").encode(), self._key.encode()
        ):
            return self._let_in(request)
        shown = request.cookies.get(self._cookie, "")
        if not secrets.compare_digest(shown.encode(), self._key.encode()):
            raise web.HTTPForbidden(text="open the address that `tangram page` printed\n")
        path = request.rel_url.raw_path
        if (path != "/" and not path.startswith(REACHABLE)) or ".." in request.rel_url.path:
            raise web.HTTPNotFound(text="nothing the page needs\n")
        return await self._pass_on(request)

    @property
    def _cookie(self) -> str:
        return f"tangram-{self.port}"  # browsers tell hosts apart, but not ports

    def _let_in(self, request: web.Request) -> web.Response:
        query = request.query_string.split("&")
        rest = "&".join(each for each in query if not each.startswith("key="))
        response = web.Response(status=303, headers={"Location": f"/?{rest}" if rest else "/"})
        response.set_cookie(self._cookie, self._key, httponly=True, samesite="Strict", path="/")
        return response

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        wanted = {
            name: request.headers[name]
            for name in ("Accept", "Last-Event-ID")
            if name in request.headers
        }
        response: web.StreamResponse | None = None
        path, query = request.rel_url.raw_path, request.rel_url.raw_query_string
        try:
            async with self._beyond.get(path, query, wanted) as answer:
                passed = {name: value for name, value in answer.headers.items() if name in PASSED}
                # The page's own policy, whatever has come between: this origin has a key.
                response = web.StreamResponse(
                    status=answer.status, headers={**passed, **_secured(passed)}
                )
                await response.prepare(request)
                async for chunk in answer.body:
                    try:
                        await response.write(chunk)
                    except ConnectionResetError:
                        break  # the browser has gone, as browsers do
                return response
        except BeyondReach as error:
            log.warning("desk_unreachable", path=request.path, error=str(error))
            if response is None:
                raise web.HTTPBadGateway(text=f"{error}\n") from error
            connection(request).abort()  # so that what came is not taken for all
            return response


def _secured(passed: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in HEADERS.items() if name not in passed}
