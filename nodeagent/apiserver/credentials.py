"""Who we are to an API server: credentials found and refreshed by kubernetes_asyncio.

It also makes the connector, which holds the TLS settings. Its errors end here, for it quotes what
it stumbles over, tokens included.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from kubernetes_asyncio import client, config
from kubernetes_asyncio.config import kube_config
from kubernetes_asyncio.config.incluster_config import SERVICE_HOST_ENV_NAME

from nodeagent.apiserver import answers
from nodeagent.apiserver.protocol import ApiError, Refused, Unavailable

FIND_TOKEN_WITHIN_SECONDS: Final = 10.0
REFRESH_SECONDS: Final = 60.0  # as often as the library rereads an in-cluster token


class Server(msgspec.Struct, frozen=True):
    """Where the API server is; ``hostname`` is what its certificate must say, if not the URL's."""

    url: str
    proxy: str | None
    proxy_headers: Mapping[str, str] | None
    hostname: str | None


class Credentials:
    """Those of *kubeconfig*, of the pod's service account, or what kubectl would use.

    The connector has at most *connections* sockets.
    """

    def __init__(self, kubeconfig: Path | None, connections: int) -> None:
        self._kubeconfig = kubeconfig
        self._connections = connections
        self._client: Any = None
        self._refreshing: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Find and read them.

        Raises:
            Refused: there are none, or they cannot be used.
        """
        configuration = client.Configuration()
        configuration.connection_pool_maxsize = self._connections
        with _kept_secret(Refused):
            await self._load(configuration)
            self._client = client.ApiClient(configuration)

    async def close(self) -> None:
        """Close the connector."""
        if self._refreshing:
            self._refreshing.cancel()
        await self._client.close()

    @property
    def connector(self) -> Any:
        """The aiohttp connector to use them with."""
        return self._client.rest_client.pool_manager.connector

    @property
    def server(self) -> Server:
        """The server they are for."""
        rest = self._client.rest_client
        host = self._client.configuration.host
        return Server(host, rest.proxy, rest.proxy_headers, rest.server_hostname)

    async def token(self) -> str:
        """Return what the Authorization header has to say, "" for nothing.

        Raises:
            Unavailable: it cannot be told now.
        """
        with _kept_secret(Unavailable):
            async with asyncio.timeout(FIND_TOKEN_WITHIN_SECONDS):
                token = await self._client.configuration.get_api_key_with_prefix("BearerToken")
        return str(token).strip() if token else ""

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
        due = now() + REFRESH_SECONDS

        async def refreshed(configuration: Any) -> None:
            async with asyncio.timeout(FIND_TOKEN_WITHIN_SECONDS):
                await loader.load_and_set(configuration)

        async def refresh(configuration: Any) -> None:
            nonlocal due
            if now() >= due:
                due = now() + REFRESH_SECONDS
                self._refreshing = asyncio.create_task(refreshed(configuration), name="credentials")
                # The next request needs them too, when this one's time is over.
                await asyncio.shield(self._refreshing)

        configuration.refresh_api_key_hook = refresh


def _kubectl_has_one() -> bool:
    """Tell whether there is a kubeconfig where kubectl would look for it."""
    places = kube_config.KUBE_CONFIG_DEFAULT_LOCATION.split(os.pathsep)
    return any(place and Path(place).expanduser().exists() for place in places)


@contextlib.contextmanager
def _kept_secret(meaning: type[ApiError]) -> Iterator[None]:
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
