"""HTTP by hand: clients that do what no well-behaved one does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from tests.builders import as_json, raw_pod

FILTER = as_json({"Pod": raw_pod("1-10C"), "Nodes": None, "NodeNames": ["node-1"]})


class RawClient:
    """One TCP connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, text: str | bytes) -> None:
        self.writer.write(text.encode() if isinstance(text, str) else text)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Return the status, the headers in lower case, and the body of the next answer."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (x.partition(": ") for x in lines)}
        if first.startswith("HTTP/1.0"):
            headers.setdefault("connection", "close")
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(first.split()[1]), headers, body

    async def cut_off(self) -> None:
        """Return once the server has closed the connection."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


async def dial(url: str) -> RawClient:
    """Connect to the server of *url*."""
    at = urlsplit(url)
    return RawClient(*await asyncio.open_connection(at.hostname, at.port))


@contextlib.asynccontextmanager
async def connected(url: str, *, count: int = 1) -> AsyncIterator[list[RawClient]]:
    """Open *count* connections and drop them, whatever state they are in, when the block ends."""
    clients: list[RawClient] = []
    try:
        for _ in range(count):
            clients.append(await dial(url))
        yield clients
    finally:
        for client in clients:
            client.writer.transport.abort()


def request(body: bytes = FILTER, *, path: str = "/filter", length: int | None = None) -> bytes:
    """Return a POST as Go sends it; *length* is what it says of its body."""
    said = len(body) if length is None else length
    head = (
        f"POST {path} HTTP/1.1\r\nHost: hooks\r\nUser-Agent: Go-http-client/1.1\r\n"
        f"Content-Length: {said}\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n"
    )
    return head.encode() + body
