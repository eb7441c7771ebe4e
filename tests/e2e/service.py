"""What a Service does for several extenders: calls come to one address, and go to the leader."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

import msgspec

from nodeagent.api import keys
from nodeagent.apiserver.protocol import PODS, ApiError, ApiServer
from tests.e2e.controlplane.processes import LOOPBACK


class LeaderService:
    """Forwards each new connection to the pod with the leader's label; *ports* are by pod.

    Of several, or none, it is as fair as kube-proxy: one of them, or a closed connection. Like
    there, an open connection stays where it is whatever becomes of the label.
    """

    def __init__(self, api: ApiServer, ports: Mapping[str, int]) -> None:
        self._api = api
        self._ports = ports
        self._turn = 0
        self._calls: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def serving(self, port: int) -> AsyncIterator[None]:
        """Listen until the block ends."""
        async with asyncio.TaskGroup() as calls:

            def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                self._calls.add(calls.create_task(self._forward(reader, writer)))

            server = await asyncio.start_server(connected, LOOPBACK, port)
            try:
                yield
            finally:
                server.close()
                for call in self._calls:
                    call.cancel()

    async def selected(self) -> list[str]:
        """Return the pods that the Service selects."""
        page = await self._api.list(
            PODS, namespace=keys.SYSTEM_NAMESPACE, label_selector=f"{keys.LEADER_LABEL}=true"
        )
        return sorted(msgspec.json.decode(raw)["metadata"]["name"] for raw in page.items)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            pods = await self.selected()
            if not pods:
                return
            self._turn += 1
            port = self._ports[pods[self._turn % len(pods)]]
            there, back = await asyncio.open_connection(LOOPBACK, port)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_copy(reader, back))
                tasks.create_task(_copy(there, writer))
        except (ApiError, OSError, ExceptionGroup):
            pass  # nobody there, or gone in mid-call: the caller sees its connection closed
        finally:
            writer.close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while chunk := await source.read(65536):
            target.write(chunk)
            await target.drain()
    finally:
        target.close()
