"""The API server's twin behind a Unix socket, for agents that are other processes.

Each call is a connection; a watch is one for as long as it lasts.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import ApiError, Kind, Unavailable, WatchEvent

_SIZE = struct.Struct("!I")
WRITES = frozenset({"create", "patch", "delete"})


@contextlib.asynccontextmanager
async def opened(api: InMemoryApi, socket: Path) -> AsyncIterator[None]:
    """Let others call *api* at *socket*."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            verb, args, options = await _received(reader)
            calling = asyncio.create_task(_answered(api, writer, verb, args, options))
            leaving = asyncio.create_task(reader.read())
            await asyncio.wait([calling, leaving], return_when=asyncio.FIRST_COMPLETED)
            if verb in WRITES:  # what has been sent is done, whoever waits for the answer
                await asyncio.wait([calling])
            for task in (calling, leaving):
                task.cancel()
            await asyncio.gather(calling, leaving, return_exceptions=True)
        writer.close()

    server = await asyncio.start_unix_server(answer, socket)
    try:
        yield
    finally:
        server.close()


async def _answered(
    api: InMemoryApi, writer: asyncio.StreamWriter, verb: str, args: Any, options: Any
) -> None:
    try:
        if verb == "watch":
            async with contextlib.aclosing(api.watch(*args, **options)) as events:
                async for event in events:
                    await _send(writer, event)
            await _send(writer, None)
        else:
            await _send(writer, await getattr(api, verb)(*args, **options))
    except ApiError as error:
        await _send(writer, (type(error), error.status, error.message, error.retry_after))


class RemoteApi:
    """An :class:`~nodeagent.apiserver.protocol.ApiServer` at a socket that has been opened.

    *cross* is told of each call, before it is sent and after it was answered.
    """

    def __init__(self, socket: Path, cross: Callable[[str, str], None]) -> None:
        self._socket = socket
        self._cross = cross

    async def get(self, kind: Kind, name: str, **options: Any) -> bytes:
        """Return the object's JSON."""
        found: bytes = await self._call("get", kind, name, **options)
        return found

    async def list(self, kind: Kind, **options: Any) -> Any:
        """Return one page of the objects."""
        return await self._call("list", kind, **options)

    async def create(self, kind: Kind, body: Any, **options: Any) -> bytes:
        """Create an object and return it."""
        made: bytes = await self._call("create", kind, body, **options)
        return made

    async def patch(self, kind: Kind, name: str, patch: Any, **options: Any) -> bytes:
        """Patch an object and return it as it is afterwards."""
        patched: bytes = await self._call("patch", kind, name, patch, **options)
        return patched

    async def delete(self, kind: Kind, name: str, **options: Any) -> None:
        """Delete an object."""
        await self._call("delete", kind, name, **options)

    async def watch(self, kind: Kind, **options: Any) -> AsyncGenerator[WatchEvent, None]:
        """Yield what changes."""
        async with self._called("watch", kind, **options) as reader:
            while (event := await _value(reader)) is not None:
                yield event

    async def _call(self, verb: str, kind: Kind, *args: Any, **options: Any) -> Any:
        async with self._called(verb, kind, *args, **options) as reader:
            answer = await _value(reader)
        self._cross(_name(verb, kind, options), "after")
        return answer

    @contextlib.asynccontextmanager
    async def _called(
        self, verb: str, kind: Kind, *args: Any, **options: Any
    ) -> AsyncIterator[asyncio.StreamReader]:
        self._cross(_name(verb, kind, options), "before")
        try:
            reader, writer = await asyncio.open_unix_connection(self._socket)
            try:
                await _send(writer, (verb, (kind, *args), options))
                yield reader
            finally:
                writer.close()
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            raise Unavailable(0, f"the API server has gone: {error}") from error


def _name(verb: str, kind: Kind, options: dict[str, Any]) -> str:
    return "/".join(filter(None, (verb, kind.plural, options.get("subresource", ""))))


async def _value(reader: asyncio.StreamReader) -> Any:
    answer = await _received(reader)
    if isinstance(answer, tuple):
        error, status, message, retry_after = answer
        raise error(status, message, retry_after=retry_after)
    return answer


async def _received(reader: asyncio.StreamReader) -> Any:
    (size,) = _SIZE.unpack(await reader.readexactly(_SIZE.size))
    return pickle.loads(await reader.readexactly(size))


async def _send(writer: asyncio.StreamWriter, value: Any) -> None:
    content = pickle.dumps(value)
    writer.write(_SIZE.pack(len(content)) + content)
    await writer.drain()
