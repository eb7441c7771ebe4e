"""What the twin does beyond the exam: it forgets, hangs up and fails when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import pytest

from nodeagent.apiserver.memory import Call, InMemoryApi
from nodeagent.apiserver.protocol import (
    GPU_NODES,
    PODS,
    EventType,
    Gone,
    Kind,
    PatchType,
    Refused,
    Throttled,
    Unavailable,
    WatchEvent,
)


async def create(api: InMemoryApi, name: str) -> str:
    """Create a GpuNode and return its version."""
    raw = await api.create(GPU_NODES, {"metadata": {"name": name}, "spec": {}})
    version: str = json.loads(raw)["metadata"]["resourceVersion"]
    return version


@contextlib.asynccontextmanager
async def watching(
    api: InMemoryApi, since: str, **options: Any
) -> AsyncGenerator[AsyncGenerator[WatchEvent, None], None]:
    """Watch GpuNodes, past the opening bookmark."""
    async with contextlib.aclosing(
        api.watch(GPU_NODES, resource_version=since, **options)
    ) as events:
        await anext(events)
        yield events


async def test_the_same_chance_and_clock_make_the_same_objects() -> None:
    def api() -> InMemoryApi:
        return InMemoryApi(clock=lambda: datetime(2026, 1, 1, tzinfo=UTC), chance=random.Random(7))

    body = {"metadata": {"generateName": "n-"}, "spec": {}}
    first, second = await api().create(GPU_NODES, body), await api().create(GPU_NODES, body)
    assert first == second
    assert json.loads(first)["metadata"]["creationTimestamp"] == "2026-01-01T00:00:00Z"


async def test_a_list_cannot_be_continued_once_its_moment_is_forgotten() -> None:
    api = InMemoryApi()
    await create(api, "a")
    await create(api, "b")
    page = await api.list(GPU_NODES, limit=1)
    await create(api, "c")
    api.compact()
    with pytest.raises(Gone):
        await api.list(GPU_NODES, limit=1, continue_token=page.continue_token)


async def test_a_running_watch_survives_compaction() -> None:
    api = InMemoryApi()
    async with watching(api, await create(api, "a")) as events:
        await create(api, "b")
        api.compact()
        assert (await anext(events)).type == EventType.ADDED


async def test_the_past_is_kept_as_long_as_promised() -> None:
    api = InMemoryApi(keep_writes=3)
    versions = [await create(api, f"n{i}") for i in range(20)]

    async with watching(api, versions[-4]) as events:
        names = [json.loads((await anext(events)).object)["metadata"]["name"] for _ in range(3)]
    assert names == ["n17", "n18", "n19"]
    with pytest.raises(Gone):
        await anext(api.watch(GPU_NODES, resource_version=versions[0]))


async def test_a_dropped_watch_ends_at_once_and_tells_nothing_more() -> None:
    api = InMemoryApi()
    async with watching(api, await create(api, "a")) as events:
        await create(api, "b")
        api.drop_watches()
        assert [event async for event in events] == []


async def test_a_dropped_watch_ends_with_the_error_it_was_dropped_with() -> None:
    api = InMemoryApi()
    async with watching(api, await create(api, "a")) as events:
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        api.drop_watches(Unavailable(0, "connection lost"))
        with pytest.raises(Unavailable, match="connection lost"):
            await waiting


async def test_a_bookmark_comes_after_all_that_happened_before_it() -> None:
    api = InMemoryApi()
    async with watching(api, await create(api, "a")) as events:
        await create(api, "b")
        api.send_bookmarks()
        pod = json.loads(await api.create(PODS, {"metadata": {"name": "p"}}, namespace="x"))
        seen = [await anext(events), await anext(events)]
    assert [event.type for event in seen] == [EventType.ADDED, EventType.BOOKMARK]
    assert seen[1].resource_version == pod["metadata"]["resourceVersion"]


async def test_bookmarks_come_by_themselves() -> None:
    api = InMemoryApi(bookmark_every=0.001)
    async with watching(api, await create(api, "a")) as events:
        seen = [await anext(events), await anext(events)]
    assert [event.type for event in seen] == [EventType.BOOKMARK] * 2


async def test_a_writer_never_waits_for_a_watch() -> None:
    api = InMemoryApi()
    async with watching(api, await create(api, "a")) as events:
        for i in range(100):
            await create(api, f"b{i}")
        assert json.loads((await anext(events)).object)["metadata"]["name"] == "b0"


async def test_two_watches_hear_the_same() -> None:
    api = InMemoryApi()
    since = await create(api, "a")
    async with watching(api, since) as one, watching(api, since) as other:
        await create(api, "b")
        assert await anext(one) == await anext(other)


async def test_a_registered_kind_is_served() -> None:
    kind = Kind("example.com", "v1", "things", namespaced=False)
    api = InMemoryApi()
    api.register(kind, status_subresource=False)
    await api.create(kind, {"metadata": {"name": "a"}, "status": {"x": 1}})
    raw = await api.patch(kind, "a", {"status": {"x": 2}}, patch_type=PatchType.MERGE)
    assert json.loads(raw)["metadata"]["generation"] == 2  # no status of its own: all is spec


@pytest.mark.parametrize("version", ["", "0", "x", "-1"])
async def test_a_watch_starts_where_a_list_or_an_event_was(version: str) -> None:
    with pytest.raises(Refused):
        await anext(InMemoryApi().watch(GPU_NODES, resource_version=version))


async def test_a_disturbance_before_a_write_prevents_it() -> None:
    api = InMemoryApi()

    async def overloaded(call: Call) -> None:
        if call.verb == "create" and not call.done:
            raise Throttled(429, "later", retry_after=3.0)

    api.disturbance = overloaded
    with pytest.raises(Throttled) as error:
        await create(api, "a")
    assert error.value.retry_after == 3.0
    assert (await api.list(GPU_NODES)).items == []


async def test_a_disturbance_after_a_write_hides_that_it_was_made() -> None:
    api = InMemoryApi()

    async def lost(call: Call) -> None:
        if call.verb == "create" and call.done:
            raise Unavailable(0, "connection lost")

    api.disturbance = lost
    with pytest.raises(Unavailable):
        await create(api, "a")
    assert len((await api.list(GPU_NODES)).items) == 1


async def test_an_answer_that_does_not_come_in_time_is_unavailable() -> None:
    api = InMemoryApi()

    async def hang(call: Call) -> None:
        await asyncio.Event().wait()

    api.disturbance = hang
    with pytest.raises(Unavailable) as error:
        await api.get(GPU_NODES, "a", timeout=0.001)
    assert error.value.status == 0
