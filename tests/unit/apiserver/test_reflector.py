"""A reflector says what it hears, says when it hears nothing, and never gives up."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import msgspec
import pytest

from nodeagent.apiserver.memory import Call, InMemoryApi
from nodeagent.apiserver.protocol import (
    GPU_NODES,
    EventType,
    Gone,
    NotFound,
    Page,
    Throttled,
    WatchEvent,
)
from nodeagent.apiserver.reflector import (
    Change,
    Confirmed,
    Deleted,
    Interrupted,
    Object,
    Pace,
    Replaced,
    Upserted,
)
from tests.unit.apiserver.following import LOST, Pauses, create, reflecting

NAMES = "abc"


def kinds(changes: Sequence[Change]) -> list[type[Change]]:
    return [type(change) for change in changes]


def measured(current: Object) -> Object:
    """Keep how long an object's JSON is."""
    return msgspec.structs.replace(current, raw=b"", read=len(current.raw))


async def test_what_is_read_as_it_comes_is_kept_in_the_place_of_its_json() -> None:
    api = InMemoryApi()
    await create(api, "a")
    async with reflecting(api, read=measured) as following:
        listed = await following()
        await following()
        await create(api, "b")
        upserted = await following()

    assert isinstance(listed, Replaced)
    assert isinstance(upserted, Upserted)
    for each in (*listed.objects, upserted.object):
        assert each.raw == b""
        assert each.read == len(await api.get(GPU_NODES, each.name))


async def test_it_lists_all_pages_then_watches() -> None:
    api = InMemoryApi()
    for name in NAMES:
        await create(api, name)
    async with reflecting(api, pace=Pace(page_size=2)) as following:
        listed = await following()
        confirmed = await following()
        await create(api, "d")
        upserted = await following()
        await api.delete(GPU_NODES, "d")
        deleted = await following()

    assert isinstance(listed, Replaced)
    assert [one.name for one in listed.objects] == list(NAMES)
    assert confirmed == Confirmed(listed.resource_version)
    assert isinstance(upserted, Upserted)
    assert isinstance(deleted, Deleted)
    assert upserted.object.name == deleted.object.name == "d"
    assert upserted.object.uid == deleted.object.uid == uid(upserted.object.raw)


async def test_an_object_is_known_by_name_and_uid_even_where_the_rest_makes_no_sense() -> None:
    api = InMemoryApi()
    await api.create(GPU_NODES, {"metadata": {"name": "odd"}, "spec": {"assignments": "none"}})
    async with reflecting(api) as following:
        listed = await following()
    assert isinstance(listed, Replaced)
    (odd,) = listed.objects
    assert odd == Object("", "odd", uid(odd.raw), odd.raw)


async def test_a_deletion_while_away_shows_in_the_next_list() -> None:
    api = InMemoryApi()
    await create(api, "a")
    await create(api, "b")
    async with reflecting(api) as following:
        await following()
        await following()
        api.drop_watches()
        await api.delete(GPU_NODES, "a")
        api.compact()
        interrupted, listed = await following(), await following()

    assert isinstance(interrupted, Interrupted)
    assert isinstance(interrupted.error, Gone)
    assert isinstance(listed, Replaced)
    assert [one.name for one in listed.objects] == ["b"]


async def test_what_happened_while_away_is_caught_up_without_a_list() -> None:
    api = InMemoryApi()
    await create(api, "a")
    pauses = Pauses()
    async with reflecting(api, pauses=pauses) as following:
        await following()
        await following()
        await create(api, "b")
        await following()
        api.drop_watches()
        await create(api, "c")
        await api.delete(GPU_NODES, "a")
        changes = [await following() for _ in range(3)]
    assert kinds(changes) == [Confirmed, Upserted, Deleted]
    assert pauses.seconds == []  # a watch that told something may end at any time


async def test_a_watch_that_breaks_is_an_interruption_until_it_runs_again() -> None:
    api = InMemoryApi()
    async with reflecting(api) as following:
        await following()
        await following()
        api.drop_watches(LOST)
        changes = [await following() for _ in range(2)]
    assert changes[0] == Interrupted(LOST)
    assert isinstance(changes[1], Confirmed)


async def test_a_list_that_fails_is_tried_again_for_ever() -> None:
    api = InMemoryApi()
    left = 50

    async def missing(call: Call) -> None:
        nonlocal left
        if call.verb == "list" and left:
            left -= 1
            raise NotFound(404, "the CustomResourceDefinition is not there yet")

    api.disturbance = missing
    async with reflecting(api) as following:
        changes = [await following() for _ in range(51)]
    assert kinds(changes) == [Interrupted] * 50 + [Replaced]


async def test_pauses_grow_to_a_limit_and_begin_anew_once_something_was_heard() -> None:
    api = InMemoryApi()
    pauses = Pauses()
    pace = Pace(first_pause=1.0, longest_pause=10.0, patience=99)
    async with reflecting(api, pauses=pauses, pace=pace) as following:
        await following()
        for _ in range(6):
            await following()
            api.drop_watches(LOST)
            await following()
        await following()
        await create(api, "a")
        await following()
        api.drop_watches(LOST)
        await following()
        await following()
    assert pauses.seconds == [2.0, 4.0, 8.0, 10.0, 10.0, 10.0, 1.0]


async def test_no_pause_is_much_longer_than_all_before_it_whatever_is_drawn() -> None:
    api = InMemoryApi()
    pauses = Pauses()
    draws = itertools.cycle([0.0, 0.0, 0.1, 0.999])
    pace = Pace(first_pause=1.0, longest_pause=64.0)

    async def away(call: Call) -> None:
        raise LOST

    api.disturbance = away
    async with reflecting(api, pauses=pauses, pace=pace, chance=lambda: next(draws)) as following:
        while len(pauses.seconds) < 80:
            await following()
    before = itertools.accumulate(pauses.seconds, initial=0.0)
    assert all(each <= 2.0 + sum_ for each, sum_ in zip(pauses.seconds, before, strict=False))
    assert 63.0 < max(pauses.seconds) <= 64.0


@pytest.mark.parametrize(("asked_for", "paused"), [(7.0, 7.0), (0.1, 2.0), (3600.0, 10.0)])
async def test_a_throttling_server_is_obeyed_within_reason(asked_for: float, paused: float) -> None:
    api = InMemoryApi()
    pauses = Pauses()

    async def busy(call: Call) -> None:
        if not pauses.seconds:
            raise Throttled(429, "busy", retry_after=asked_for)

    api.disturbance = busy
    pace = Pace(first_pause=1.0, longest_pause=10.0)
    async with reflecting(api, pauses=pauses, pace=pace) as following:
        await following()
        await following()
    assert pauses.seconds == [paused]


async def test_a_watch_that_is_accepted_and_silent_leads_to_a_list_before_long() -> None:
    """So it is with an API server restored from a backup: our versions are its future."""
    api = InMemoryApi()
    pauses = Pauses()
    async with reflecting(api, pauses=pauses, pace=Pace(patience=3)) as following:
        await following()
        changes: list[Change] = []
        for _ in range(4):
            changes.append(await following())
            api.drop_watches()
    assert kinds(changes) == [Confirmed, Confirmed, Confirmed, Replaced]
    assert len(pauses.seconds) == 3


async def test_closing_it_closes_its_watch() -> None:
    opened = closed = 0

    class Counting(InMemoryApi):
        async def watch(self, *args: Any, **kwargs: Any) -> AsyncGenerator[WatchEvent, None]:
            nonlocal opened, closed
            opened += 1
            try:
                async with contextlib.aclosing(super().watch(*args, **kwargs)) as events:
                    async for event in events:
                        yield event
            finally:
                closed += 1

    async with reflecting(Counting()) as following:
        await following()
        await following()
        assert (opened, closed) == (1, 0)
    assert (opened, closed) == (1, 1)


async def test_an_event_that_is_no_object_is_an_interruption() -> None:
    class Garbling(InMemoryApi):
        async def watch(self, *args: Any, **kwargs: Any) -> AsyncGenerator[WatchEvent, None]:
            yield WatchEvent(EventType.BOOKMARK, b"{}", "1")
            yield WatchEvent(EventType.ADDED, b"{}", "2")

    async with reflecting(Garbling()) as following:
        changes = [await following() for _ in range(3)]
    assert kinds(changes) == [Replaced, Confirmed, Interrupted]


async def test_a_watch_that_ends_before_it_is_accepted_is_an_interruption() -> None:
    class Refusing(InMemoryApi):
        async def watch(self, *args: Any, **kwargs: Any) -> AsyncGenerator[WatchEvent, None]:
            return
            yield

    async with reflecting(Refusing()) as following:
        changes = [await following() for _ in range(2)]
    assert kinds(changes) == [Replaced, Interrupted]


async def test_a_list_that_is_gone_between_pages_begins_anew() -> None:
    api = InMemoryApi()
    for name in NAMES:
        await create(api, name)
    compacted = False

    class Compacting(InMemoryApi):
        async def list(self, *args: Any, **kwargs: Any) -> Page:
            nonlocal compacted
            page = await api.list(*args, **kwargs)
            if not compacted:
                compacted = True
                await create(api, "d")
                api.compact()
            return page

    async with reflecting(Compacting(), pace=Pace(page_size=1)) as following:
        changes = [await following() for _ in range(2)]
    assert isinstance(changes[0], Interrupted)
    assert isinstance(changes[0].error, Gone)
    assert isinstance(changes[1], Replaced)
    assert [one.name for one in changes[1].objects] == [*NAMES, "d"]


def uid(raw: bytes) -> str:
    found: str = json.loads(raw)["metadata"]["uid"]
    return found
