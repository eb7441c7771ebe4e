"""``tangram page``: the page of a cluster's extender, in a browser here."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
import webbrowser
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

import msgspec
import typer

from extender.cli.asked import fail
from extender.cli.desk import TokenWanted, Unanswered, Where, reached
from extender.server.access import PASSED_ON
from extender.server.forwarding import Answer, BeyondReach, forwarding
from nodeagent.api import keys
from nodeagent.apiserver.protocol import SERVICE_ACCOUNTS, ApiError
from nodeagent.apiserver.rest import RestApi

TOKEN_SECONDS = 3600
RENEWED_SECONDS = 600.0  # before its end
FLEET = "/api/v1/fleet"
CONNECTIONS = 32  # to the API server: every event stream holds one


def page(
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Credentials for the API server; else what kubectl uses.")
    ] = None,
    namespace: Annotated[
        list[str] | None,
        typer.Option(
            "--namespace",
            "-n",
            help="Whose VMs are shown by name (repeatable) to who may not list every pod.",
        ),
    ] = None,
    show_as: Annotated[
        str,
        typer.Option(
            "--as",
            metavar="NAMESPACE/NAME",
            help="A service account to look as; needed where the kubeconfig has a client"
            " certificate and no token, for the API server passes neither on.",
        ),
    ] = "",
    service: Annotated[
        str,
        typer.Option(metavar="NAMESPACE/NAME:PORT", help="The Service of the extender's desk."),
    ] = f"{keys.SYSTEM_NAMESPACE}/tangram-page:desk",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on this machine; 0 takes a free one.")
    ] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open a browser, or print the address.")
    ] = True,
    desk: Annotated[
        str,
        typer.Option(
            metavar="URL",
            envvar="TANGRAM_DESK",
            help="A desk that wants no token, such as that of `tangram demo --serve`: its page is"
            " opened as it is, and nothing else is looked at but --namespace.",
        ),
    ] = "",
) -> None:
    """Open the page of a cluster's extender with your kubeconfig, until Ctrl-C."""
    where, slash, target = service.partition("/")
    account_in, account_slash, account = show_as.partition("/")
    if not (slash and where and target):
        raise typer.BadParameter(f"{service} is not NAMESPACE/NAME:PORT", param_hint="--service")
    if show_as and not (account_slash and account_in and account):
        raise typer.BadParameter(f"{show_as} is not NAMESPACE/NAME", param_hint="--as")
    names = urlencode([("namespace", each) for each in namespace or ()])
    if desk:
        _straight(desk, names, browser=browser)
        return
    work = _page(kubeconfig, (where, target), (account_in, account), names, port, browser=browser)
    try:
        asyncio.run(work)
    except (ApiError, BeyondReach) as error:
        typer.echo(f"tangram page: {error}", err=True)
        raise typer.Exit(1) from error
    except OSError as error:
        typer.echo(f"tangram page: cannot listen on port {port}: {error}", err=True)
        raise typer.Exit(1) from error


def _straight(url: str, names: str, *, browser: bool) -> None:
    """Open the page of a desk that a browser reaches by itself."""

    async def answers() -> None:
        async with reached(Where(desk=url)) as ask:
            await ask(FLEET, {})

    try:
        asyncio.run(answers())
    except TokenWanted:
        text = f"{url} wants a token, and a browser shows none: leave --desk out, and the page is"
        fail("page", Unanswered(f"{text} reached through the API server with your kubeconfig"))
    except Unanswered as error:
        fail("page", error)
    address = url.rstrip("/")
    asyncio.run(_opened(f"{address}/?{names}" if names else f"{address}/", browser=browser))


async def _opened(address: str, *, browser: bool) -> None:
    typer.echo(address)
    if browser and not await asyncio.to_thread(webbrowser.open, address):
        typer.echo("No browser could be opened: open that address in one.", err=True)


async def _page(
    kubeconfig: Path | None,
    service: tuple[str, str],
    account: tuple[str, str],
    names: str,
    port: int,
    *,
    browser: bool,
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with RestApi(kubeconfig=kubeconfig, connections=CONNECTIONS) as api:
        desk = Desk(api, *service, account=account)
        await desk.answers()
        async with forwarding(desk, port=port) as url:
            address = f"{url}&{names}" if names else url
            await _opened(address, browser=browser)
            await stop.wait()


class Desk:
    """A cluster's desk, behind the API server: a :class:`~extender.server.forwarding.Beyond`.

    It is shown the kubeconfig's token or, with an *account* (its namespace and name), one of that
    service account's.
    """

    def __init__(
        self, api: RestApi, namespace: str, service: str, *, account: tuple[str, str] = ("", "")
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._service = f"https:{service}"
        self._account = account
        self._token = ""
        self._token_until = 0.0

    async def answers(self) -> None:
        """Make sure of the way there and of what is to be shown.

        Raises:
            BeyondReach: there is none; the message says what to do.
        """
        await self._shown()
        async with self.get("/", "", {}) as answer:
            if answer.status != 200:
                said = b"".join([chunk async for chunk in answer.body])
                raise BeyondReach(
                    f"the API server answers {answer.status} for {self._namespace}/{self._service}:"
                    f" {_brief(said)}"
                )

    @contextlib.asynccontextmanager
    async def get(self, path: str, query: str, headers: Mapping[str, str]) -> AsyncIterator[Answer]:
        """GET a path of the desk.

        Raises:
            BeyondReach: there is no answer.
        """
        shown = {**headers, PASSED_ON: f"Bearer {await self._shown()}"}
        try:
            async with self._api.service(
                self._namespace, self._service, path, query, shown
            ) as answer:
                yield answer
        except ApiError as error:
            raise BeyondReach(f"cannot reach the extender: {error}") from error

    async def _shown(self) -> str:
        namespace, name = self._account
        try:
            if not name:
                token = await self._api.bearer()
            elif time.monotonic() < self._token_until:
                token = self._token
            else:
                token = await self._requested(namespace, name)
        except ApiError as error:
            raise BeyondReach(f"no token to show the extender: {error}") from error
        if not token:
            raise BeyondReach(
                "your kubeconfig has no token to show the extender, and the API server does not"
                " pass client certificates on: give --as NAMESPACE/NAME, a service account"
            )
        return token

    async def _requested(self, namespace: str, name: str) -> str:
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": TOKEN_SECONDS},
        }
        raw = await self._api.create(
            SERVICE_ACCOUNTS, body, namespace=namespace, name=name, subresource="token"
        )
        self._token = msgspec.json.decode(raw, type=_TokenRequest).status.token
        self._token_until = time.monotonic() + TOKEN_SECONDS - RENEWED_SECONDS
        return self._token


class _TokenStatus(msgspec.Struct, frozen=True):
    token: str


class _TokenRequest(msgspec.Struct, frozen=True):
    status: _TokenStatus


class _Said(msgspec.Struct, frozen=True):
    message: str = ""


def _brief(body: bytes) -> str:
    """Return what an API server's Status says, or the beginning of anything else."""
    try:
        return msgspec.json.decode(body, type=_Said).message[:300]
    except msgspec.DecodeError:
        return body[:300].decode(errors="replace").strip()
