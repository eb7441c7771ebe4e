"""Writes of a process that leads for a time: none too late, and none forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable

import pytest

from extender.cluster.fence import Fenced
from extender.service.ports import TRANSIT_SECONDS
from extender.service.tenure import Tenure
from nodeagent.apiserver.memory import Call, InMemoryApi
from nodeagent.apiserver.protocol import (
    NODES,
    ApiError,
    Conflict,
    NotFound,
    PatchType,
    Unavailable,
)
from tests.fakes.replicas import now
from tests.virtual_time import in_virtual_time


def told(story: Callable[[InMemoryApi, Tenure, Fenced], Awaitable[None]]) -> None:
    """Tell a story of an API server with a Node ``n``, and a process that leads until 10 s."""

    async def begin() -> None:
        api = InMemoryApi()
        await api.create(NODES, {"metadata": {"name": "n"}})
        tenure = Tenure(now, until=10.0)
        await story(api, tenure, Fenced(api, tenure, now))

    in_virtual_time(begin())


async def hang(call: Call) -> None:
    await asyncio.Event().wait()


WRITES = {
    "create": lambda api: api.create(NODES, {"metadata": {"name": "m"}}),
    "patch": lambda api: api.patch(
        NODES, "n", {"metadata": {"labels": {"a": "b"}}}, patch_type=PatchType.MERGE
    ),
    "delete": lambda api: api.delete(NODES, "n"),
}


@pytest.mark.parametrize("verb", WRITES)
def test_a_write_after_the_end_is_not_sent(verb: str) -> None:
    async def story(api: InMemoryApi, tenure: Tenure, fenced: Fenced) -> None:
        sent: list[str] = []

        async def note(call: Call) -> None:
            sent.append(call.verb)

        api.disturbance = note
        await asyncio.sleep(10)
        with pytest.raises(Unavailable, match="nothing was sent"):
            await WRITES[verb](fenced)
        assert sent == []
        assert await fenced.get(NODES, "n")
        tenure.hold(until=now() + 10)
        await WRITES[verb](fenced)
        assert {"get", verb} == set(sent)

    told(story)


@pytest.mark.parametrize("verb", WRITES)
def test_a_write_before_the_end_has_no_more_time_than_is_left(verb: str) -> None:
    async def story(api: InMemoryApi, tenure: Tenure, fenced: Fenced) -> None:
        api.disturbance = hang
        await asyncio.sleep(7)
        with pytest.raises(Unavailable):
            await WRITES[verb](fenced)
        assert now() == pytest.approx(10)

    told(story)


def test_a_write_has_the_time_its_caller_gave_it_where_that_is_less() -> None:
    async def story(api: InMemoryApi, tenure: Tenure, fenced: Fenced) -> None:
        api.disturbance = hang
        with pytest.raises(Unavailable):
            await fenced.delete(NODES, "n", timeout=2.0)
        assert now() == pytest.approx(2)

    told(story)


def test_who_does_not_lead_may_ask_what_would_become_of_a_write() -> None:
    async def story(api: InMemoryApi, tenure: Tenure, fenced: Fenced) -> None:
        await asyncio.sleep(10)
        assert await fenced.create(NODES, {"metadata": {"name": "m"}}, dry_run=True)
        with pytest.raises(NotFound):
            await api.get(NODES, "m")
        api.disturbance = hang
        with pytest.raises(Unavailable):
            await fenced.create(NODES, {"metadata": {"name": "m"}}, dry_run=True)
        await fenced.settled()
        assert now() == pytest.approx(20), "nothing comes of it that was to be waited for"

    told(story)


def test_without_an_end_a_write_has_all_its_time() -> None:
    async def story(api: InMemoryApi, tenure: Tenure, fenced: Fenced) -> None:
        tenure.hold(until=math.inf)
        api.disturbance = hang
        with pytest.raises(Unavailable):
            await fenced.delete(NODES, "n")
        assert now() == pytest.approx(10)

    told(story)


def test_what_was_cut_off_is_waited_for_until_it_cannot_be_committed() -> None:
    async def story(api: InMemoryApi, tenure: Tenure, fenced: Fenced) -> None:
        api.disturbance = hang
        write = asyncio.create_task(fenced.delete(NODES, "n", timeout=4.0))
        await asyncio.sleep(1)
        write.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await write
        tenure.end()
        await fenced.settled()
        assert now() == pytest.approx(4 + TRANSIT_SECONDS)

    told(story)


@pytest.mark.parametrize(
    ("error", "waits"),
    [
        (None, 0.0),
        (Conflict(409, "no"), 0.0),
        (Unavailable(500, "?"), 4.0 + TRANSIT_SECONDS),
    ],
)
def test_what_was_answered_need_not_be_waited_for(error: ApiError | None, waits: float) -> None:
    async def story(api: InMemoryApi, tenure: Tenure, fenced: Fenced) -> None:
        async def answer(call: Call) -> None:
            if error is not None:
                raise error

        api.disturbance = answer
        with contextlib.suppress(ApiError):
            await fenced.delete(NODES, "n", timeout=4.0)
        await fenced.settled()
        assert now() == pytest.approx(waits)

    told(story)
