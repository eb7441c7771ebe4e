"""Accepts connections, and no more than we can serve.

At the limit the newcomer takes the place of whoever uses theirs least: of those that never asked
anything the oldest, then of all others the one that has been idle or sending for longest. A client
whose answer is being worked out is never cut off; if all are, the newcomer is turned away.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Sequence

from aiohttp import web

from extender.server.certificates import Certificates
from extender.server.connection import Connection, Stage
from extender.server.limits import Limits
from extender.server.sparse import SparseLog
from extender.service import RightOfWay

ACCEPTS_AT_ONCE = 32  # then whoever is connected has a turn
PAUSE_SECONDS = 0.2  # when the process has no descriptor left


class Listener:
    """The listening sockets and the connections made through them."""

    def __init__(
        self,
        server: web.Server,
        limits: Limits,
        tls: Certificates | None,
        sockets: Sequence[socket.socket],
        way: RightOfWay | None = None,
    ) -> None:
        self._server = server
        self._limits = limits
        self._tls = tls
        self._sockets = sockets
        self._way = way
        self._loop = asyncio.get_running_loop()
        self._sparse = SparseLog()
        self._open: dict[Connection, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._listen()

    @property
    def connections(self) -> Sequence[Connection]:
        """The connections that are open or being opened, oldest first."""
        return tuple(self._open)

    async def close(self) -> None:
        """Accept no more; connections that are open stay so."""
        self._closed = True
        for each in self._sockets:
            self._loop.remove_reader(each)
            each.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _listen(self) -> None:
        if not self._closed:
            for each in self._sockets:
                self._loop.add_reader(each, self._accept, each)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS_AT_ONCE):
            try:
                accepted, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptor left, most likely; the caller stays queued
                self._sparse.warning("accept_failed", error=str(error))
                self._make_room()
                for each in self._sockets:
                    self._loop.remove_reader(each)
                self._loop.call_later(PAUSE_SECONDS, self._listen)
                return
            self._admit(accepted)

    def _admit(self, accepted: socket.socket) -> None:
        if len(self._open) >= self._limits.connections:
            gone = self._make_room()
            self._sparse.warning(
                "connection_limit_reached",
                limit=self._limits.connections,
                gives_way=f"one that is {gone.stage.value}" if gone else "the newcomer",
            )
            if gone is None:
                accepted.close()
                return
        accepted.setblocking(False)
        if sys.platform == "linux":
            patience = int(self._limits.silence_seconds * 1000)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience)
        connection = Connection(
            self._server, self._limits, self._sparse, lost=self._forget, way=self._way
        )
        self._open[connection] = None
        connection.opening = self._loop.create_task(self._connect(connection, accepted))
        self._tasks.add(connection.opening)
        connection.opening.add_done_callback(self._tasks.discard)

    async def _connect(self, connection: Connection, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=self._tls.context if self._tls else None,
                ssl_handshake_timeout=self._limits.handshake_seconds if self._tls else None,
            )
        except OSError as error:  # also what TLS and time-outs raise
            self._sparse.warning("handshake_failed", error=str(error))
            self._forget(connection)
        except asyncio.CancelledError:
            self._forget(connection)
            raise

    def _make_room(self) -> Connection | None:
        """Cut off the connection of least use, and return it if there was one."""
        least = min(
            (each for each in self._open if each.stage is not Stage.ANSWERING),
            key=lambda each: (each.served, each.since),
            default=None,
        )
        if least is not None:
            self._forget(least)
            least.abort()
        return least

    def _forget(self, connection: Connection) -> None:
        self._open.pop(connection, None)


@contextlib.asynccontextmanager
async def listening(
    server: web.Server,
    limits: Limits,
    tls: Certificates | None,
    *,
    host: str,
    port: int,
    way: RightOfWay | None = None,
) -> AsyncIterator[int]:
    """Accept connections for *server* and yield the port; 0 takes a free one.

    What comes by them has the right of *way*.

    Raises:
        OSError: the address cannot be had.
    """
    sockets = await _sockets(host, port, limits.backlog)
    listener = Listener(server, limits, tls, sockets, way)
    watch = asyncio.create_task(tls.watch(limits.certificates_seconds)) if tls else None
    try:
        yield int(sockets[0].getsockname()[1])
    finally:
        if watch is not None:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        await listener.close()


async def _sockets(host: str, port: int, backlog: int) -> Sequence[socket.socket]:
    """Listen on every address of *host*, on one port."""
    found = await asyncio.get_running_loop().getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    with contextlib.ExitStack() as unless_all:
        sockets: list[socket.socket] = []
        for family, _, _, _, address in dict.fromkeys(found):
            asked = (address[0], port or (sockets[0].getsockname()[1] if sockets else 0))
            made = socket.create_server((*asked, *address[2:]), family=family, backlog=backlog)
            sockets.append(unless_all.enter_context(made))
            made.setblocking(False)
        unless_all.pop_all()
    return sockets
