"""The fleet for programs and the page: as it is, and as it changes.

``/api/v1/fleet`` is one JSON document, written as it is drawn: at 5,000 nodes that takes longer
than a hook may wait, so that hooks are answered in between. Who takes gzip is sent it packed.
``/api/v1/events`` tells of changes as server-sent events. Its ids are versions; whoever comes back
with their last one is told what has changed since, or, where that is not known any more, to ask for
everything anew.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence

import msgspec
from aiohttp import web

from extender.overview import Sight
from extender.overview.documents import Node, Queue
from extender.server.access import sight_of
from extender.server.drawing import Drawing
from extender.server.packed import VARIES, pack
from extender.server.routes import SERVICE, connection

AT_ONCE = 4
"""Nodes drawn between two answers of a hook: 1.1 ms (measured, nodes of 8 GPUs and 13 VMs)."""

LOOK_SECONDS = 0.25
"""How often changes are looked for: what a person sees as at once."""

SILENCE_SECONDS = 15.0
"""After which something is said all the same, so that a reader who is gone is noticed."""

STREAM_SECONDS = 300.0
"""How long events are told before the reader must come again: so long a right taken away lasts."""

WRITE_SECONDS = 20.0
"""For a reader to take what is written; then they are cut off, and may come back."""

MOST_READERS = 48
"""Readers of events at a time; the desk's other connections are for everything else."""

REVIEWED_AS = dict.fromkeys(("/api/v1/fleet", "/api/v1/events", "/api/v1/shadow"), "/fleet")
"""The path that one must be allowed to GET: Kubernetes allows everybody whatever is below /api."""

DRAWING: web.AppKey[Drawing] = web.AppKey("drawing")
_READERS: web.AppKey[set[asyncio.Event]] = web.AppKey("readers")
_EPOCH: web.AppKey[str] = web.AppKey("epoch")


def add_fleet(app: web.Application) -> None:
    """Add the routes; the application needs its ``SERVICE`` and ``REVIEWER``."""
    app[DRAWING] = Drawing(app[SERVICE].knowledge)
    app[_READERS] = set()
    app[_EPOCH] = secrets.token_hex(4)  # versions count from this process's start
    app.router.add_get("/api/v1/fleet", _fleet, allow_head=False)
    app.router.add_get("/api/v1/events", _events, allow_head=False)
    app.on_shutdown.append(_dismiss)


async def _dismiss(app: web.Application) -> None:
    for leave in app[_READERS]:
        leave.set()


async def _fleet(request: web.Request) -> web.StreamResponse:
    sight, drawing = await sight_of(request), request.app[DRAWING]
    connection(request).body_received()
    version = drawing.look()
    head = {
        "version": f"{request.app[_EPOCH]}.{version}",
        "about": drawing.about(sight),
        **_pending(drawing.pending(sight)),
    }
    response = web.StreamResponse(
        headers={"Content-Type": "application/json", "Cache-Control": "no-store", **VARIES}
    )
    pack(request, response)
    return await _written(request, response, _whole(drawing, sight, head))


async def _whole(drawing: Drawing, sight: Sight, head: object) -> AsyncIterator[bytes]:
    """Yield the document piece by piece, with a turn for others before each."""
    yield msgspec.json.encode(head)[:-1] + b',"geometries":'
    yield msgspec.json.encode(drawing.geometries()) + b',"nodes":['
    names = sorted(drawing.views)
    comma = b""
    for at in range(0, len(names), AT_ONCE):
        await asyncio.sleep(0)
        nodes = [sight.of(node) for node in drawing.fresh(names[at : at + AT_ONCE])]
        if nodes:
            yield comma + msgspec.json.encode(nodes)[1:-1]
            comma = b","
    yield b"]}"


async def _events(request: web.Request) -> web.StreamResponse:
    sight, readers = await sight_of(request), request.app[_READERS]
    if len(readers) >= MOST_READERS:
        raise web.HTTPServiceUnavailable(
            text=f"{MOST_READERS} readers are told of changes already\n",
            headers={"Retry-After": "5"},
        )
    connection(request).body_received()
    leave = asyncio.Event()
    readers.add(leave)
    try:
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",  # of a proxy before us
            }
        )
        return await _written(request, response, _told(request, sight, leave))
    finally:
        readers.discard(leave)


async def _told(request: web.Request, sight: Sight, leave: asyncio.Event) -> AsyncIterator[bytes]:
    """Yield what a reader is to hear, until it is time that they come again."""
    drawing, epoch, now = request.app[DRAWING], request.app[_EPOCH], asyncio.get_running_loop().time
    had, _, number = request.headers.get("Last-Event-ID", request.query.get("since", "")).partition(
        "."
    )
    known = int(number) if had == epoch and number.isdecimal() else -1
    ends, quiet_since = now() + STREAM_SECONDS, now()
    waiting: object = None
    yield b"retry: 2000\n\n"
    while now() < ends and not leave.is_set():
        version = drawing.look()
        pending, about = drawing.pending(sight), drawing.about(sight)
        changed = drawing.since(known)
        if changed is None:
            yield b"event: reload\ndata: {}\n\n"
            return
        if version != known or waiting != (pending, about):
            waiting = (pending, about)
            for upto, nodes, gone in _portions(drawing, changed.nodes, changed.gone, version):
                told = {
                    "nodes": [sight.of(node) for node in nodes],
                    "gone": gone,
                    "geometries": drawing.geometries_of(nodes),
                    "about": about,
                    **_pending(pending),
                }
                # Only the last portion bears the id: who loses the connection before comes again.
                id = f"id: {epoch}.{upto}\n".encode() if upto is not None else b""
                yield b"event: change\n" + id + b"data: " + msgspec.json.encode(told) + b"\n\n"
                await asyncio.sleep(0)
            known, quiet_since = version, now()
        elif now() - quiet_since >= SILENCE_SECONDS:
            quiet_since = now()
            yield b": nothing new\n\n"
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await leave.wait()
        except TimeoutError:
            continue


def _portions(
    drawing: Drawing, names: Sequence[str], gone: Sequence[str], version: int
) -> Iterator[tuple[int | None, Sequence[Node], Sequence[str]]]:
    """Yield the changed nodes some at a time; the last portion with the version it completes."""
    starts = range(0, max(1, len(names)), AT_ONCE)
    for at in starts:
        last = at == starts[-1]
        nodes = tuple(drawing.fresh(names[at : at + AT_ONCE]))
        yield version if last else None, nodes, gone if last else ()


def _pending(queue: Queue) -> dict[str, object]:
    return {"pending": queue.pods, "pendingTotal": queue.total}


async def _written(
    request: web.Request, response: web.StreamResponse, pieces: AsyncIterator[bytes]
) -> web.StreamResponse:
    """Write an answer piece by piece; a reader who does not take them in time is cut off."""
    try:
        async with asyncio.timeout(WRITE_SECONDS):
            await response.prepare(request)
        async for piece in pieces:
            async with asyncio.timeout(WRITE_SECONDS):
                await response.write(piece)
    except TimeoutError:
        connection(request).sparse.warning("slow_reader_cut", path=request.path)
        connection(request).abort()
    except ConnectionResetError:
        pass  # the reader has gone, as readers do
    return response
