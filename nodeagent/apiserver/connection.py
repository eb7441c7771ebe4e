"""Requests to an API server, each within its time, on a session of our own.

kubernetes_asyncio makes the connector, but its own way of using it parses every object into
generated classes and logs bodies. aiohttp's errors end here.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
from yarl import URL

from nodeagent.apiserver import answers
from nodeagent.apiserver.protocol import Unavailable

JSON: Final = "application/json"
WRITES: Final = frozenset({"POST", "PATCH", "DELETE"})

CONNECT_WITHIN_SECONDS: Final = 10.0
READ_BUFFER_BYTES: Final = 2 << 20  # as kubernetes_asyncio's own session has it
LONGEST_LINE_BYTES: Final = 8 << 20  # etcd's limit is 1.5 MiB; escaped as JSON it may be some more


class _Time:
    """The time one request has from here on, and whether it was sent within it."""

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._ends = self._loop.time() + seconds
        self.sent = False

    @property
    def left_ms(self) -> int:
        return math.floor((self._ends - self._loop.time()) * 1000)

    async def goes_with(
        self, request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Give the time to the request (aiohttp's form of a middleware)."""
        assert isinstance(request, _Request)
        request.time = self
        return await send(request)


class _Request(aiohttp.ClientRequest):
    """A request that, when it is sent, tells the server how much time is left for a write.

    Before that it has waited for its connection. The server counts the time from when the request
    has come: what it commits, it commits within the time that the caller gave and the time that the
    request was on its way.
    """

    time: _Time | None = None

    async def send(self, conn: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        """Send it, as soon as there is a connection."""
        if self.time:
            if self.time.left_ms < 1:
                raise TimeoutError
            if self.method in WRITES:
                self.url = self.url.update_query(timeout=f"{self.time.left_ms}ms")
            self.time.sent = True
        return await super().send(conn)


class Relayed(NamedTuple):
    """An answer that is passed on: its status, its headers, and its body as it comes."""

    status: int
    headers: Mapping[str, str]
    body: AsyncIterator[bytes]


class Connection:
    """A session with one API server, of at most *connections* sockets.

    Where none is made, kubernetes_asyncio is not loaded: that takes a second.
    """

    def __init__(self, kubeconfig: Path | None, connections: int) -> None:
        from nodeagent.apiserver.credentials import Credentials

        self._credentials = Credentials(kubeconfig, connections)
        self._session: aiohttp.ClientSession

    async def open(self) -> None:
        """Load the credentials.

        Raises:
            Refused: there are none, or they cannot be used.
        """
        await self._credentials.load()
        self._session = aiohttp.ClientSession(
            connector=self._credentials.connector,
            connector_owner=False,
            trust_env=True,  # for a proxy
            read_bufsize=READ_BUFFER_BYTES,
            request_class=_Request,
        )

    async def close(self) -> None:
        """Close every socket."""
        await self._session.close()
        await self._credentials.close()

    async def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: bytes | None = None,
        media_type: str = JSON,
        timeout: float,
    ) -> bytes:
        """Return the whole answer to one request, all within *timeout* seconds.

        That includes the waiting for credentials and for a connection; a server asked to write is
        told what is left of it then.
        """
        time = _Time(timeout)
        request = self._answer(method, path, query, body, media_type, aiohttp.ClientTimeout(), time)
        with _translated(time):
            async with asyncio.timeout(timeout), request as response:
                return await response.read()

    @contextlib.asynccontextmanager
    async def stream(
        self, path: str, query: Mapping[str, str], silence: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Enter once the server has accepted, and give the lines of its answer.

        A server that closes the connection ends them; one that breaks it off, or sends nothing for
        *silence* seconds, is Unavailable.
        """
        patience = aiohttp.ClientTimeout(connect=CONNECT_WITHIN_SECONDS, sock_read=silence)
        async with (
            self._answer("GET", path, query, None, JSON, patience) as response,
            contextlib.aclosing(_lines(response.content)) as lines,
        ):
            try:
                yield lines
            finally:
                if response.connection and response.connection.transport:
                    # TLS would say goodbye in the background, for longer than the session lasts.
                    response.connection.transport.abort()

    @contextlib.asynccontextmanager
    async def relay(
        self,
        path: str,
        query: str,
        headers: Mapping[str, str],
        silence: float,
        *,
        method: str = "GET",
        body: bytes | None = None,
    ) -> AsyncIterator[Relayed]:
        """Enter once a request is answered, whatever the answer is, and give it as it comes.

        *path* and *query* go as they are; *headers* besides our own. A server that sends nothing
        for *silence* seconds is Unavailable.
        """
        patience = aiohttp.ClientTimeout(connect=CONNECT_WITHIN_SECONDS, sock_read=silence)
        whole = URL(f"{path}?{query}" if query else path, encoded=True)
        async with self._request(method, whole, None, body, JSON, patience, headers) as response:
            try:
                yield Relayed(response.status, response.headers, response.content.iter_any())
            finally:
                if response.connection and response.connection.transport:
                    response.connection.transport.abort()

    async def bearer(self) -> str:
        """Return the bearer token that the API server is shown, "" where it is shown none.

        Raises:
            Unavailable: it cannot be told now.
        """
        scheme, _, token = (await self._credentials.token()).partition(" ")
        return token if scheme.lower() == "bearer" else ""

    @contextlib.asynccontextmanager
    async def _answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: bytes | None,
        media_type: str,
        patience: aiohttp.ClientTimeout,
        time: _Time | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        async with self._request(
            method, path, query, body, media_type, patience, {}, time
        ) as response:
            if not 200 <= response.status < 300:
                retry_after = response.headers.get("Retry-After", "")
                said = await response.read()
                raise answers.refusal(response.status, said, retry_after=retry_after)
            if response.content_type != JSON:
                raise Unavailable(0, f"an answer of type {response.content_type}")
            yield response

    @contextlib.asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str | URL,
        query: Mapping[str, str] | None,
        body: bytes | None,
        media_type: str,
        patience: aiohttp.ClientTimeout,
        headers: Mapping[str, str],
        time: _Time | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        server = self._credentials.server
        url = URL(f"{server.url}{path}", encoded=True) if isinstance(path, URL) else None
        with _translated(time):
            async with self._session.request(
                method,
                url or f"{server.url}{path}",
                params=query,
                data=body,
                headers={**await self._headers(media_type), **headers},
                timeout=patience,
                allow_redirects=False,  # the token is for one server
                proxy=server.proxy,
                proxy_headers=server.proxy_headers,
                server_hostname=server.hostname,
                middlewares=(time.goes_with,) if time else (),
            ) as response:
                yield response

    async def _headers(self, media_type: str) -> dict[str, str]:
        headers = {
            "Accept": JSON,
            "Accept-Encoding": "identity",  # the network is near; compressing costs both sides more
            "Content-Type": media_type,
            "User-Agent": "tangram",
        }
        token = await self._credentials.token()
        return headers | ({"Authorization": token} if token else {})


async def _lines(content: aiohttp.StreamReader) -> AsyncGenerator[bytes, None]:
    """Split a stream into lines; aiohttp's own readline has a limit that large objects pass."""
    begun: list[bytes] = []  # the pieces of a line whose end has not come yet
    async for chunk in content.iter_any():
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            line = b"".join((*begun, end))
            begun.clear()
            if line:
                yield line
        begun.append(rest)
        if sum(map(len, begun)) > LONGEST_LINE_BYTES:
            raise Unavailable(0, f"a line of more than {LONGEST_LINE_BYTES} bytes")
    if any(begun):
        raise Unavailable(0, "the answer ends within a line")


@contextlib.contextmanager
def _translated(time: _Time | None = None) -> Iterator[None]:
    """Turn what a failing connection raises into this package's error, keeping the cause."""
    try:
        yield
    except TimeoutError as error:
        unsent = time is not None and not time.sent
        said = "no time was left to send it: nothing was sent" if unsent else "no answer in time"
        raise Unavailable(0, said) from error
    except (aiohttp.ClientError, OSError) as error:
        raise Unavailable(0, answers.brief(f"{type(error).__name__}: {error}")) from error
