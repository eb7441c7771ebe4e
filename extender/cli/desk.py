"""The way from the command line to an extender's desk: straight there, or through an API server.

Through the API server it is its proxy to the desk's Service, with the kubeconfig that kubectl would
use. The proxy keeps the Authorization header for itself, so the token goes in another one besides.
"""

from __future__ import annotations

import asyncio
import ssl
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Protocol
from urllib.parse import urlencode, urlsplit

import msgspec
import typer

from extender.cli.secured import loopback
from extender.server.access import PASSED_ON
from nodeagent.api import keys
from nodeagent.apiserver.protocol import ApiError
from nodeagent.apiserver.rest import RestApi

SERVICE = "https:tangram-page:desk"
"""The desk's Service as the API server's proxy names it: the leader's, who knows who waits."""

WITHIN_SECONDS = 30.0

DeskUrl = Annotated[
    str,
    typer.Option(
        "--desk",
        metavar="URL",
        envvar="TANGRAM_DESK",
        help="The extender's desk, such as that of `tangram demo --serve`; else it is asked through"
        " the API server.",
    ),
]
Token = Annotated[
    str,
    typer.Option(
        envvar="TANGRAM_TOKEN",
        help="Bearer token to show the desk; else the kubeconfig's.",
    ),
]
Ca = Annotated[
    Path | None, typer.Option(help="CA that the certificate of --desk must come from (PEM).")
]
Kubeconfig = Annotated[
    Path | None, typer.Option(help="Credentials for the API server; else what kubectl uses.")
]


class Where(msgspec.Struct, frozen=True):
    """Which desk to ask, and what to show it."""

    desk: str = ""
    token: str = ""
    ca: Path | None = None
    kubeconfig: Path | None = None


class Unanswered(Exception):
    """The desk did not answer; the message says why, and what to do."""


class TokenWanted(Unanswered):
    """The desk answers nobody without a token that the API server knows."""


Query = Mapping[str, str] | Sequence[tuple[str, str]]
"""Parameters; as pairs where one may come several times."""


class Ask(Protocol):
    """Asks a desk."""

    async def __call__(
        self, path: str, query: Query, *, method: str = "GET", body: bytes | None = None
    ) -> bytes:
        """Ask for a path with a query, and return the JSON that is answered.

        Raises:
            Unanswered: it was not.
        """


@asynccontextmanager
async def reached(where: Where) -> AsyncIterator[Ask]:
    """Yield how to ask a desk.

    Raises:
        Unanswered: there is no way there.
    """
    if where.desk:
        straight = _Straight(where)
        yield straight.ask
        return
    try:
        async with RestApi(kubeconfig=where.kubeconfig) as api:
            token = where.token or await api.bearer()
            if not token:
                raise Unanswered(
                    "the kubeconfig has a client certificate and no token, and the API server"
                    " passes no certificate on: give --token"
                    ' "$(kubectl create token ACCOUNT -n NAMESPACE)"'
                )
            yield _Through(api, token).ask
    except ApiError as error:
        raise Unanswered(
            f"cannot use the API server: {error}; give --kubeconfig, or --desk URL"
        ) from error


async def sent(where: Where, path: str, yaml: bytes) -> bytes:
    """POST YAML to the desk at a known address, and return the JSON that is answered.

    Raises:
        Unanswered: it did not answer.
    """
    return await _Straight(where).ask(path, {}, method="POST", body=yaml, kind="application/yaml")


class _Through:
    """The desk behind an API server."""

    def __init__(self, api: RestApi, token: str) -> None:
        self._api = api
        self._token = token

    async def ask(
        self, path: str, query: Query, *, method: str = "GET", body: bytes | None = None
    ) -> bytes:
        shown = {PASSED_ON: f"Bearer {self._token}"}
        async with (
            asyncio.timeout(WITHIN_SECONDS),
            self._api.service(
                keys.SYSTEM_NAMESPACE,
                SERVICE,
                path,
                urlencode(query),
                shown,
                method=method,
                body=body,
            ) as answer,
        ):
            body = b"".join([chunk async for chunk in answer.body])
        if answer.status != 200:
            raise _refusal(answer.status, body)
        return body


class _Unturned(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the token is for one server."""

    def redirect_request(self, *_: object) -> None:
        return None


class _Straight:
    """A desk whose address is known."""

    def __init__(self, where: Where) -> None:
        parts = urlsplit(where.desk)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Unanswered(f"{where.desk} is no address of a desk: give http(s)://HOST:PORT")
        if where.token and parts.scheme == "http" and not loopback(parts.hostname):
            raise Unanswered(
                f"{where.desk} would show the token to everybody on the way: use https"
            )
        handlers: list[urllib.request.BaseHandler] = [_Unturned()]
        if parts.scheme == "https":
            try:
                context = ssl.create_default_context(cafile=where.ca)
            except OSError as error:  # ssl.SSLError is one
                raise Unanswered(f"cannot use --ca {where.ca}: {error}") from error
            handlers.append(urllib.request.HTTPSHandler(context=context))
        self._opener = urllib.request.build_opener(*handlers)
        self._url = where.desk.rstrip("/")
        self._headers = {"Authorization": f"Bearer {where.token}"} if where.token else {}

    async def ask(
        self,
        path: str,
        query: Query,
        *,
        method: str = "GET",
        body: bytes | None = None,
        kind: str = "application/json",
    ) -> bytes:
        whole = f"{self._url}{path}?{urlencode(query)}" if query else f"{self._url}{path}"
        typed = {} if body is None else {"Content-Type": kind}
        request = urllib.request.Request(
            whole, data=body, headers={**self._headers, **typed}, method=method
        )
        return await asyncio.to_thread(self._answered, request)

    def _answered(self, request: urllib.request.Request) -> bytes:
        try:
            with self._opener.open(request, timeout=WITHIN_SECONDS) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                raise _refusal(error.code, error.read()) from error
        except (OSError, HTTPException) as error:  # URLError is an OSError
            reason = getattr(error, "reason", error)
            raise Unanswered(
                f"cannot reach {self._url}: {reason}; is `tangram serve --desk-port` or"
                " `tangram demo --serve` running there?"
            ) from error


class _Status(msgspec.Struct, frozen=True):
    message: str = ""


def _refusal(status: int, body: bytes) -> Unanswered:
    """Return what a refusal comes to, in the words of whoever refused."""
    try:
        said = msgspec.json.decode(body, type=_Status).message
    except msgspec.MsgspecError:
        said = body.decode(errors="replace").strip()
    said = said[:500] or f"status {status}"
    if status == 401:
        return TokenWanted(
            f'{said}: give --token, such as "$(kubectl create token ACCOUNT -n NAMESPACE)"'
        )
    return Unanswered(said)
