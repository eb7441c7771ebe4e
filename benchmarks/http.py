"""A client of the hooks that costs as little as it can: it shares our process and our processor."""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import cast
from urllib.parse import urlsplit


class Connection(asyncio.Protocol):
    """One kept connection, one request at a time, as kube-scheduler's serial cycle has it."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[bytes] | None = None
        self._received = bytearray()
        self._expected = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """End; whoever waits for an answer will not get it."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("closed by the server"))

    def data_received(self, data: bytes) -> None:
        """Collect an answer until it is complete."""
        self._received += data
        if not self._expected and (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._received[:end]).lower()
            if not head.startswith(b"http/1.1 200"):
                raise ConnectionError(head.decode(errors="replace"))
            length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
            self._expected = end + 4 + int(length)
        if self._expected and len(self._received) >= self._expected:
            assert self._answer is not None
            self._answer.set_result(bytes(self._received))
            self._received.clear()
            self._expected = 0

    async def post(self, verb: str, body: bytes) -> bytes:
        """Ask, and return the answer's body."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        head = f"POST /{verb} HTTP/1.1\r\nHost: hooks\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.writelines((head.encode(), body))
        return (await self._answer).partition(b"\r\n\r\n")[2]

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.abort()


@asynccontextmanager
async def connected(url: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[Connection]:
    """Connect to the server of *url*, with *tls* to one of https."""
    loop, at = asyncio.get_running_loop(), urlsplit(url)
    _, connection = await loop.create_connection(
        Connection, at.hostname or "", at.port or 80, ssl=tls
    )
    try:
        yield connection
    finally:
        connection.close()


class Times:
    """How long things took: on the clock, and of the processor's time spent on it by this process.

    The latter does not grow when others use the processor too; it includes the client's part.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Note how long the block takes."""
        started, cpu_started = time.perf_counter(), time.process_time()
        yield
        self.seconds.append(time.perf_counter() - started)
        self.cpu_seconds.append(time.process_time() - cpu_started)

    async def of(self, connection: Connection, verb: str, body: bytes) -> bytes:
        """Ask, and note how long the answer took."""
        with self.taken():
            return await connection.post(verb, body)

    def told(self) -> dict[str, float]:
        """Return the median and the 99th percentile of both, in milliseconds."""
        return {
            f"{prefix}{quantile}_ms": quantile_ms(sorted(seconds), share)
            for prefix, seconds in (("", self.seconds), ("cpu_", self.cpu_seconds))
            for quantile, share in (("p50", 0.5), ("p99", 0.99))
        }


def quantile_ms(ordered: Sequence[float], share: float) -> float:
    """Return what *share* of the seconds, in order, do not exceed, in milliseconds."""
    return round(ordered[math.ceil(share * len(ordered)) - 1] * 1000, 3)
