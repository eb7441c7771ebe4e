"""One client's connection, and the patience we have with it.

::

    idle ── first byte ──▶ receiving ── body complete ──▶ answering ── answer taken ──▶ idle

What aiohttp does not bound is bounded here: the time a request's head may take, and the time a
client may take to accept its answer. A client that is too slow is cut off.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from enum import Enum
from typing import cast

import structlog
from aiohttp import web

from extender.server.certificates import client_names
from extender.server.limits import Limits
from extender.server.sparse import SparseLog
from extender.service import RightOfWay

log = structlog.get_logger()

TURNS = 4  # of the loop: to read what has come, wake aiohttp, make its task, and start that


class Stage(Enum):
    """What a connection is at."""

    IDLE = "idle"
    RECEIVING = "receiving"
    ANSWERING = "answering"


class Connection(web.RequestHandler):
    """aiohttp's side of a connection, with deadlines.

    ``since`` is when its stage began, on the loop's clock; ``served`` whether it has had an answer,
    ``sparse`` logs what clients can cause, ``opening`` is the task that makes it, while there is no
    transport to speak of. From a request's first byte to its answer it has the right of *way*.
    """

    __slots__ = (
        "_due",
        "_has_way",
        "_limits",
        "_lost",
        "_timer",
        "_timer_at",
        "_waiting_for",
        "_way",
        "_wire",
        "opening",
        "served",
        "since",
        "sparse",
        "stage",
    )

    def __init__(
        self,
        server: web.Server,
        limits: Limits,
        sparse: SparseLog,
        *,
        lost: Callable[[Connection], None],
        way: RightOfWay | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=limits.keepalive_seconds,
            max_line_size=limits.request_line_bytes,
            max_field_size=limits.header_bytes,
            max_headers=limits.headers,
            lingering_time=limits.linger_seconds,
            access_log=None,  # type: ignore[arg-type]  # none is written; the types do not say so
            auto_decompress=False,  # Go sends bodies as they are; whoever does not is told so
        )
        self._limits = limits
        self.sparse = sparse
        self._lost = lost
        self._way = way
        self._has_way = False
        self._wire: asyncio.Transport | None = None
        # One timer for all of a connection's requests, set anew only when it rings too early.
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0
        self._due = math.inf
        self._waiting_for = ""
        self.opening: asyncio.Task[None] | None = None
        self.stage = Stage.IDLE
        self.since = loop.time()
        self.served = False

    @property
    def peer(self) -> str:
        """The client's address."""
        address = self._wire.get_extra_info("peername") if self._wire else None
        return str(address[0]) if isinstance(address, tuple) else ""

    @property
    def client_names(self) -> frozenset[str]:
        """The names in the client's certificate; none without one."""
        return client_names(self._wire.get_extra_info("peercert") if self._wire else None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, once the handshake is over."""
        self._wire = cast("asyncio.Transport", transport)
        self._enter(Stage.IDLE)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()
        self.give_way()
        self._lost(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came; the first byte of a request starts the clock for its head."""
        if data and self.stage is Stage.IDLE:
            self._enter(Stage.RECEIVING)
            self._take_way()
            self._wait_for("the request's head", self._limits.head_seconds)
        super().data_received(data)

    def head_received(self) -> None:
        """Note that the head is complete."""
        self._due = math.inf

    def body_received(self) -> None:
        """Note that the request is complete: until it is answered the connection is in use."""
        self._enter(Stage.ANSWERING)

    def give_way(self) -> None:
        """Let others go on: the request has been answered, or waits for something."""
        if self._way is not None and self._has_way:
            self._has_way = False
            self._way.leave()

    def _take_way(self) -> None:
        if self._way is not None and not self._has_way:
            self._has_way = True
            self._way.enter()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write the answer, for as long as the client may take to accept it."""
        self._wait_for("its answer to be taken", self._limits.write_seconds)
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self._due = math.inf
            self.served = True
            self._enter(Stage.IDLE)
            self.give_way()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is not HTTP, or what we failed at, and close the connection."""
        if status < 500:
            self.sparse.warning("malformed_http", peer=self.peer, error=str(exc)[:300])
            answer = web.Response(text="not HTTP as this server speaks it\n", status=status)
        else:
            log.error("request_failed", path=request.path, status=status, exc_info=exc)
            answer = web.Response(text="the request failed\n", status=status)
        answer.force_close()
        return answer

    def abort(self) -> None:
        """Close at once: what a client that does not read has not taken is dropped."""
        if self._wire is not None:
            self._wire.abort()
        elif self.opening is not None:
            self.opening.cancel()

    def _enter(self, stage: Stage) -> None:
        self.stage = stage
        self.since = self._loop.time()

    def _wait_for(self, what: str, seconds: float) -> None:
        self._waiting_for = what
        self._due = self._loop.time() + seconds
        if self._timer is None or self._timer_at > self._due:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self._due
        self._timer = self._loop.call_at(self._due, self._rings, TURNS)

    def _rings(self, turns: int) -> None:
        """Cut a late client off, unless it is the loop that is late: what came is taken first."""
        self._timer = None
        if self._due == math.inf:
            return
        if self._loop.time() < self._due:
            self._set_timer()
        elif turns:
            self._timer_at = self._due
            self._timer = self._loop.call_soon(self._rings, turns - 1)
        else:
            self.sparse.warning("slow_client_cut", peer=self.peer, waiting_for=self._waiting_for)
            self.abort()
