"""How an API server is reached: kubernetes_asyncio's credentials, TLS and session, our errors.

kubernetes_asyncio finds and refreshes credentials and makes the aiohttp connector. The requests are
made on a session of our own, since its own way parses every object into generated classes and logs
bodies. Both libraries' errors end here.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp
from kubernetes_asyncio import client, config
from kubernetes_asyncio.config import kube_config
from kubernetes_asyncio.config.incluster_config import SERVICE_HOST_ENV_NAME

from nodeagent.apiserver import answers
from nodeagent.apiserver.protocol import ApiError, Refused, Unavailable

JSON: Final = "application/json"
WRITES: Final = frozenset({"POST", "PATCH", "DELETE"})

CONNECT_WITHIN_SECONDS: Final = 10.0
REFRESH_CREDENTIALS_SECONDS: Final = 60.0  # as often as the library rereads an in-cluster token
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

    Before that it has waited for its connection: what the server commits within the time told is
    committed within the time that the caller gave.
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


class Connection:
    """A session with one API server, of at most *connections* sockets."""

    def __init__(self, kubeconfig: Path | None, connections: int) -> None:
        self._kubeconfig = kubeconfig
        self._connections = connections
        self._client: Any = None
        self._session: aiohttp.ClientSession
        self._refreshing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Load the credentials.

        Raises:
            Refused: there are none, or they cannot be used.
        """
        configuration = client.Configuration()
        configuration.connection_pool_maxsize = self._connections
        with _credentials_kept_secret(Refused):
            await self._load(configuration)
            self._client = client.ApiClient(configuration)
        self._session = aiohttp.ClientSession(
            connector=self._client.rest_client.pool_manager.connector,
            connector_owner=False,
            trust_env=True,  # for a proxy
            read_bufsize=READ_BUFFER_BYTES,
            request_class=_Request,
        )

    async def close(self) -> None:
        """Close every socket."""
        if self._refreshing:
            self._refreshing.cancel()
        await self._session.close()
        await self._client.close()

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
        rest = self._client.rest_client
        with _translated(time):
            async with self._session.request(
                method,
                self._client.configuration.host + path,
                params=query,
                data=body,
                headers=await self._headers(media_type),
                timeout=patience,
                allow_redirects=False,  # the token is for one server
                proxy=rest.proxy,
                proxy_headers=rest.proxy_headers,
                server_hostname=rest.server_hostname,
                middlewares=(time.goes_with,) if time else (),
            ) as response:
                if not 200 <= response.status < 300:
                    retry_after = response.headers.get("Retry-After", "")
                    said = await response.read()
                    raise answers.refusal(response.status, said, retry_after=retry_after)
                if response.content_type != JSON:
                    raise Unavailable(0, f"an answer of type {response.content_type}")
                yield response

    async def _headers(self, media_type: str) -> dict[str, str]:
        with _credentials_kept_secret(Unavailable):
            async with asyncio.timeout(CONNECT_WITHIN_SECONDS):
                token = await self._client.configuration.get_api_key_with_prefix("BearerToken")
        headers = {
            "Accept": JSON,
            "Accept-Encoding": "identity",  # the network is near; compressing costs both sides more
            "Content-Type": media_type,
            "User-Agent": "tangram",
        }
        return headers | ({"Authorization": token.strip()} if token else {})

    async def _load(self, configuration: Any) -> None:
        if self._kubeconfig is None and SERVICE_HOST_ENV_NAME in os.environ:
            config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
            return
        if self._kubeconfig is not None and not self._kubeconfig.is_file():
            raise Refused(0, f"no kubeconfig at {self._kubeconfig}")
        if self._kubeconfig is None and not _kubectl_has_one():
            raise Refused(0, "no credentials for the API server: give --kubeconfig")
        loader = await config.load_kube_config(
            config_file=None if self._kubeconfig is None else str(self._kubeconfig),
            client_configuration=configuration,
        )
        now = asyncio.get_running_loop().time
        due = now() + REFRESH_CREDENTIALS_SECONDS

        async def refreshed(configuration: Any) -> None:
            async with asyncio.timeout(CONNECT_WITHIN_SECONDS):
                await loader.load_and_set(configuration)

        async def refresh(configuration: Any) -> None:
            nonlocal due
            if now() >= due:
                due = now() + REFRESH_CREDENTIALS_SECONDS
                self._refreshing = asyncio.create_task(refreshed(configuration), name="credentials")
                # The next request needs them too, when this one's time is over.
                await asyncio.shield(self._refreshing)

        configuration.refresh_api_key_hook = refresh


def _kubectl_has_one() -> bool:
    """Tell whether there is a kubeconfig where kubectl would look for it."""
    places = kube_config.KUBE_CONFIG_DEFAULT_LOCATION.split(os.pathsep)
    return any(place and Path(place).expanduser().exists() for place in places)


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


@contextlib.contextmanager
def _credentials_kept_secret(meaning: type[ApiError]) -> Iterator[None]:
    """Turn whatever a malformed kubeconfig or a failing plugin raises into *meaning*."""
    try:
        yield
    except ApiError:
        raise
    except Exception as error:  # noqa: BLE001 -- the loader stumbles over input in any way
        # The library quotes whole sections after " in ", tokens included; hence no cause either.
        said = str(error).partition(" in ")[0] if isinstance(error, config.ConfigException) else ""
        text = answers.brief(f"credentials cannot be used: {type(error).__name__} {said}".strip())
        raise meaning(0, text) from None
