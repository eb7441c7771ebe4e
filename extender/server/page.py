"""The page: files of this package, to be had by anybody, for they tell nothing of the cluster.

Its policy lets the browser run and load nothing but these files, and talk to nobody but us.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files

from aiohttp import web

from extender.server.routes import connection

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_FILES = {
    f"/page/{each.name}": each
    for each in (files("extender") / "page").iterdir()
    if each.name.rpartition(".")[2] in _TYPES
}
_INDEX = "/page/index.html"

PAGE = ("/", *sorted(_FILES))
"""The paths of its files."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-cache",  # after an upgrade the page is not half old
}


def add_page(app: web.Application) -> None:
    """Add its files."""
    for path in PAGE:
        app.router.add_get(path, _file(_INDEX if path == "/" else path))


def _file(path: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    body = _FILES[path].read_bytes()
    media_type = _TYPES[path.rpartition(".")[2]]

    async def answer(request: web.Request) -> web.Response:
        connection(request).body_received()
        return web.Response(body=body, content_type=media_type, charset="utf-8", headers=HEADERS)

    return answer
