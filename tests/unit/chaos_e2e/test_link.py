"""The links of the end-to-end faults: forwarding, and the ways in which it fails."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.e2e.chaos.link import Link
from tests.waiting import until

LOOPBACK = "127.0.0.1"


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """Run a server that says what it is told, and yield its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(4096):
                writer.write(piece)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, LOOPBACK, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


class Talk:
    """A client's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def heard(self, count: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(count), 10)

    @classmethod
    @contextlib.asynccontextmanager
    async def with_(cls, link: Link) -> AsyncIterator[Talk]:
        reader, writer = await asyncio.open_connection(LOOPBACK, link.port)
        try:
            yield cls(reader, writer)
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def talking() -> AsyncIterator[tuple[Link, Talk]]:
    async with echo() as port, Link(port).serving() as link, Talk.with_(link) as talk:
        yield link, talk


async def test_what_is_said_and_its_end_arrive_at_the_other_side() -> None:
    async with talking() as (_, talk):
        said = bytes(range(256)) * 1000
        talk.writer.write(said)
        talk.writer.write_eof()

        assert await asyncio.wait_for(talk.reader.read(-1), 10) == said


async def test_a_delay_is_of_everything_and_not_of_each_piece_after_the_other() -> None:
    loop = asyncio.get_running_loop()
    async with talking() as (link, talk):
        link.delay = 0.2
        begun = loop.time()
        for _ in range(20):
            talk.writer.write(b"x" * 60_000)  # chunks enough to add up, were they delayed in turn
            await talk.writer.drain()
        await talk.heard(20 * 60_000)

        assert 0.4 <= loop.time() - begun < 4.0  # there and back; else 7 s


async def test_what_was_held_arrives_afterwards_and_new_connections_wait_too() -> None:
    async with talking() as (link, talk):
        talk.writer.write(b"before")
        assert await talk.heard(6) == b"before"
        link.hold()
        talk.writer.write(b"meanwhile")
        async with Talk.with_(link) as late:
            late.writer.write(b"late")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(talk.reader.read(1), 0.1)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(late.reader.read(1), 0.1)
            link.release()

            assert await talk.heard(9) == b"meanwhile"
            assert await late.heard(4) == b"late"


async def test_an_end_is_held_like_everything_else() -> None:
    async with talking() as (link, talk):
        link.hold()
        talk.writer.write(b"last")
        talk.writer.write_eof()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(talk.reader.read(-1), 0.1)
        link.release()

        assert await asyncio.wait_for(talk.reader.read(-1), 10) == b"last"


async def test_a_cut_ends_what_there_is_and_lets_new_connections_in() -> None:
    async with talking() as (link, talk):
        talk.writer.write(b"x")
        await talk.heard(1)
        link.cut()
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(talk.reader.read(1), 10) == b""
        await until(lambda: link.connections == 0)

        async with Talk.with_(link) as again:
            again.writer.write(b"again")
            assert await again.heard(5) == b"again"


async def test_a_connection_to_nobody_is_closed() -> None:
    async with echo() as port:
        pass
    async with Link(port).serving() as link, Talk.with_(link) as talk:
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(talk.reader.read(1), 10) == b""
