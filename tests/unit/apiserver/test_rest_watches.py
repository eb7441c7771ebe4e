"""A watch over a real connection: however the stream is cut, and whatever ends it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import web

from nodeagent.apiserver.protocol import (
    GPU_NODES,
    PODS,
    ApiError,
    EventType,
    Gone,
    Refused,
    Throttled,
    Unavailable,
    WatchEvent,
)
from tests.unit.apiserver.conftest import Wire, begun, hang_up, node, status

ENDED_WITHIN_SECONDS = 5.0


def line(type_: str, value: Mapping[str, Any]) -> bytes:
    return json.dumps({"type": type_, "object": value}).encode() + b"\n"


async def watched(wire: Wire, timeout: float = 1.0) -> list[WatchEvent]:
    """Watch to the end, and return what comes behind the opening bookmark."""
    events = wire.api.watch(GPU_NODES, resource_version="7", timeout=timeout)
    async with asyncio.timeout(ENDED_WITHIN_SECONDS):
        opening, *others = [event async for event in events]
    assert (opening.type, opening.resource_version) == (EventType.BOOKMARK, "7")
    return others


async def test_a_watch_asks_for_bookmarks_and_its_time(wire: Wire) -> None:
    wire.streams()
    async for _ in wire.api.watch(
        PODS, resource_version="7", field_selector="spec.nodeName=n", timeout=300.0
    ):
        pass
    assert wire.asked[0].path == "/api/v1/pods"
    assert dict(wire.asked[0].query) == {
        "fieldSelector": "spec.nodeName=n",
        "watch": "true",
        "allowWatchBookmarks": "true",
        "resourceVersion": "7",
        "timeoutSeconds": "300",
    }


async def test_events_arrive_however_the_stream_is_cut(wire: Wire) -> None:
    whole = line("ADDED", node(8)) + line("MODIFIED", node(9)) + line("BOOKMARK", node(10)) + b"\n"
    for size in (1, 7, len(whole) - 1, len(whole)):
        wire.streams(*(whole[at : at + size] for at in range(0, len(whole), size)))
        events = await watched(wire)
        assert [(e.type, e.resource_version) for e in events] == [
            (EventType.ADDED, "8"),
            (EventType.MODIFIED, "9"),
            (EventType.BOOKMARK, "10"),
        ]
        assert json.loads(events[0].object) == node(8)


async def test_an_event_may_be_as_large_as_etcd_allows(wire: Wire) -> None:
    large = node(8, spec={"text": "x" * (3 << 20)})
    whole = line("ADDED", large) + line("DELETED", node(9))
    wire.streams(*(whole[at : at + 60_000] for at in range(0, len(whole), 60_000)))

    first, second = await watched(wire)
    assert json.loads(first.object) == large
    assert second.type == EventType.DELETED


async def test_a_line_without_end_is_unavailable(wire: Wire) -> None:
    wire.streams(*[b"x" * (1 << 20)] * 9)
    with pytest.raises(Unavailable, match="a line of more than"):
        await watched(wire)


@pytest.mark.parametrize(
    ("code", "error"), [(410, Gone), (500, Unavailable), (429, Throttled), (403, Refused)]
)
async def test_an_error_event_ends_the_watch_with_its_meaning(
    wire: Wire, code: int, error: type[ApiError]
) -> None:
    wire.streams(line("ADDED", node(8)), line("ERROR", status(code, "too old")))
    events = wire.api.watch(GPU_NODES, resource_version="7")
    assert [(await anext(events)).resource_version for _ in range(2)] == ["7", "8"]
    with pytest.raises(error, match="too old"):
        await anext(events)


async def test_a_watch_that_is_refused_never_opens(wire: Wire) -> None:
    wire.answers(410, status(410))
    with pytest.raises(Gone):
        await anext(wire.api.watch(GPU_NODES, resource_version="7"))


@pytest.mark.parametrize(
    "garbage",
    [
        b"<html>\n",
        b'{"type":"ODD","object":{"metadata":{"resourceVersion":"1"}}}\n',
        b'{"type":1}\n',
    ],
)
async def test_a_line_that_is_no_event_is_unavailable(wire: Wire, garbage: bytes) -> None:
    wire.streams(garbage)
    with pytest.raises(Unavailable, match="not a watch event"):
        await watched(wire)


async def test_a_watch_that_is_broken_off_is_unavailable(wire: Wire) -> None:
    async def breaking(request: web.Request) -> web.StreamResponse:
        response = await begun(request)
        await response.write(line("ADDED", node(8)))
        hang_up(request)
        return response

    wire.handler = breaking
    with pytest.raises(Unavailable):
        await watched(wire)


async def test_a_watch_that_ends_within_an_event_is_unavailable(wire: Wire) -> None:
    wire.streams(line("ADDED", node(8))[:-5])
    with pytest.raises(Unavailable, match="within a line"):
        await watched(wire)


async def test_a_server_that_falls_silent_is_noticed(wire: Wire) -> None:
    async def silent(request: web.Request) -> web.StreamResponse:
        response = await begun(request)
        await asyncio.Event().wait()
        return response

    wire.handler = silent
    with pytest.raises(Unavailable, match="no answer in time"):
        await watched(wire, timeout=0.01)


async def test_a_watch_can_be_left_at_any_time(wire: Wire) -> None:
    wire.streams(*(line("ADDED", node(version)) for version in range(8, 12)))
    events = wire.api.watch(GPU_NODES, resource_version="7")
    await anext(events)
    await anext(events)
    await events.aclose()

    wire.answers(200, node(1))
    assert json.loads(await wire.api.get(GPU_NODES, "n")) == node(1)
