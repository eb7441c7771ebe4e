"""A network that fails on demand: a TCP forwarder that delays, cuts, and holds back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tests.e2e.controlplane.processes import LOOPBACK

CHUNK_BYTES = 65536
CHUNKS_UNDER_WAY = 64  # in one direction of one connection; after that the sender has to wait


class Link:
    """Forwards whoever connects to :attr:`port` to *target*, a port of this machine, too.

    While *held* nothing passes in either direction, ends of connections included, and everything
    is delivered afterwards: so does a network that loses all packets look to TCP, which sends them
    again. While there is a *delay* everything arrives that many seconds later.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.delay = 0.0
        self._target = target
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._forwards: set[asyncio.Task[None]] = set()

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return len(self._forwards)

    def hold(self) -> None:
        """Let nothing pass from now on."""
        self._flowing.clear()

    def release(self) -> None:
        """Let everything pass again, what was held first."""
        self._flowing.set()

    def cut(self) -> None:
        """Reset every connection there is; new ones are welcome."""
        for writer in self._writers:
            writer.transport.abort()

    @contextlib.asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[Link]:
        """Listen on *port*, or a free one, until the block ends."""
        async with asyncio.TaskGroup() as forwards:

            def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                task = forwards.create_task(self._forward(reader, writer), name="forward")
                self._forwards.add(task)
                task.add_done_callback(self._forwards.discard)

            server = await asyncio.start_server(connected, LOOPBACK, port)
            self.port = server.sockets[0].getsockname()[1]
            try:
                yield self
            finally:
                server.close()
                self.cut()
                for task in self._forwards:
                    task.cancel()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pair = {writer}
        self._writers.add(writer)
        try:
            await self._flowing.wait()
            there, back = await asyncio.open_connection(LOOPBACK, self._target)
            pair.add(back)
            self._writers.add(back)
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._one_way(reader, back))
                ways.create_task(self._one_way(there, writer))
        except* OSError:
            pass  # one side reset it, or nobody listens: both sides see that below
        finally:
            self._writers -= pair
            for each in pair:
                each.transport.abort()

    async def _one_way(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Pass on what *source* says, each piece when it is due, and its end."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS_UNDER_WAY)

        async def receive() -> None:
            piece = b"begin"
            while piece:
                piece = await source.read(CHUNK_BYTES)
                await pieces.put((loop.time() + self.delay, piece))

        async def deliver() -> None:
            while True:
                due, piece = await pieces.get()
                if (left := due - loop.time()) > 0:
                    await asyncio.sleep(left)
                await self._flowing.wait()
                if sink.is_closing():
                    raise BrokenPipeError
                if not piece:
                    if sink.can_write_eof():
                        sink.write_eof()
                    return
                sink.write(piece)
                await sink.drain()

        async with asyncio.TaskGroup() as both:
            both.create_task(receive())
            both.create_task(deliver())
