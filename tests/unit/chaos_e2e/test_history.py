"""Reading etcd's history: every write once, in order, across whatever becomes of etcd."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from aiohttp import web

from tests.e2e.chaos.history import HistoryLost, Write, history


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def line(*events: dict[str, Any], **result: Any) -> bytes:
    return json.dumps({"result": {"events": list(events), **result}}).encode() + b"\n"


def put(revision: int, name: str, value: str) -> dict[str, Any]:
    key = encoded(f"/registry/pods/default/{name}")
    return {"kv": {"key": key, "mod_revision": str(revision), "value": encoded(value)}}


def deletion(revision: int, name: str) -> dict[str, Any]:
    kv = {"key": encoded(f"/registry/pods/default/{name}"), "mod_revision": str(revision)}
    return {"type": "DELETE", "kv": kv}


class Etcd:
    """Answers each watch with the next of *answers*, in two pieces, and breaks off."""

    def __init__(self, answers: Sequence[bytes]) -> None:
        self.asked_from: list[int] = []
        self._answers = iter(answers)

    async def watch(self, request: web.Request) -> web.StreamResponse:
        asked = (await request.json())["create_request"]
        assert base64.b64decode(asked["key"]) == b"/registry/"
        assert b"/registry/zzz" < base64.b64decode(asked["range_end"]) < b"/registrz"
        self.asked_from.append(int(asked["start_revision"]))
        answer = next(self._answers)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(line(created=True))
        await response.write(answer[:30])
        await response.write(answer[30:])
        assert request.transport is not None
        request.transport.abort()
        return response

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        application = web.Application()
        application.router.add_post("/v3/watch", self.watch)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            port = runner.addresses[0][1]
            yield f"http://127.0.0.1:{port}"
        finally:
            await runner.cleanup()


async def first(count: int, url: str) -> list[Write]:
    found = []
    async with contextlib.aclosing(history(url)) as writes:
        async for write in writes:
            found.append(write)
            if len(found) == count:
                break
    return found


async def test_writes_and_deletions_come_in_order_and_a_broken_watch_goes_on() -> None:
    etcd = Etcd(
        [
            line(put(3, "a", "{}"), put(4, "b", "{}")) + b'{"result": {"eve',
            line(deletion(7, "a")),
        ]
    )
    async with etcd.serving() as url:
        found = await first(3, url)

    assert found == [
        Write(3, "pods/default/a", b"{}"),
        Write(4, "pods/default/b", b"{}"),
        Write(7, "pods/default/a", None),
    ]
    assert etcd.asked_from == [1, 5]


async def test_a_part_that_was_compacted_away_is_missed() -> None:
    etcd = Etcd([line(canceled=True, compact_revision="90")])
    async with etcd.serving() as url:
        with pytest.raises(HistoryLost, match="90"):
            await first(1, url)
