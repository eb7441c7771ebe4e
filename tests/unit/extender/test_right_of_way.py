"""What else is done waits for the hooks, and never for long."""

from __future__ import annotations

import asyncio

import pytest

from extender.service.right_of_way import (
    LOOK_SECONDS,
    LOOP_SECONDS,
    MOMENT_SECONDS,
    PATIENCE_SECONDS,
    QUIET_SECONDS,
    REST_SECONDS,
    Aside,
    GivingWay,
    RightOfWay,
)
from extender.service.turns import in_turns

pytestmark = pytest.mark.virtual_time


async def now() -> float:
    return asyncio.get_running_loop().time()


async def test_work_goes_on_at_once_while_no_hook_is_answered() -> None:
    way, began = RightOfWay(), await now()

    for _ in range(1_000):
        await way.give_way()

    assert await now() == began


async def test_work_goes_on_when_the_last_of_the_hooks_is_answered() -> None:
    way, told = RightOfWay(), list[str]()

    async def work() -> None:
        await way.give_way()
        told.append("work")

    way.enter()
    way.enter()
    task = asyncio.create_task(work())
    await asyncio.sleep(LOOP_SECONDS / 4)
    way.leave()
    told.append("the first")
    await asyncio.sleep(LOOP_SECONDS / 4)
    way.leave()
    told.append("the second")
    await task

    assert told == ["the first", "the second", "work"]


async def test_hooks_that_never_leave_a_gap_do_not_starve_the_work() -> None:
    way, began, steps = RightOfWay(), await now(), 50

    async def hooks() -> None:
        way.enter()
        while True:  # the next one comes before the last one goes
            way.enter()
            await asyncio.sleep(LOOP_SECONDS / 5)
            way.leave()

    busy = asyncio.create_task(hooks())
    async for _ in in_turns(range(steps), way, at_once=1):
        pass
    busy.cancel()

    assert await now() - began <= steps * LOOP_SECONDS * 1.01


async def test_a_request_that_does_not_go_on_is_waited_for_once() -> None:
    way, began = RightOfWay(), await now()
    way.enter()

    for _ in range(1_000):
        await way.give_way()
    assert await now() - began == pytest.approx(LOOP_SECONDS)

    way.enter()
    assert not way.free, "the next one has the right of way again"
    way.leave()
    assert way.in_flight == 1


class Slow(RightOfWay):
    """Whoever waits in a thread waits as long as he may, by a clock of its own."""

    now = 0.0

    def wait_in_thread(self, seconds: float) -> None:
        self.now += seconds


def test_a_thread_reads_the_same_and_waits_no_longer_than_its_patience() -> None:
    them, way = {name: name.upper() for name in map(chr, range(97, 123))}, Slow()
    way.enter()
    read = GivingWay(them, way, lambda: way.now)

    assert dict(read) == dict(read.items()) == them
    assert list(read) == list(them)
    assert ("a" in read, "A" in read, read.get("A")) == (True, False, None)
    assert way.now == pytest.approx(PATIENCE_SECONDS)


def test_a_thread_does_not_wait_while_no_hook_is_answered() -> None:
    way = Slow()

    assert dict(GivingWay({"a": 1}, way, lambda: way.now)) == {"a": 1}
    assert way.now == 0


class Begun(Aside):
    """One that notes when it is told to begin."""

    def __init__(self) -> None:
        super().__init__()
        self.at: list[float] = []

    def begin(self) -> None:
        self.at.append(asyncio.get_running_loop().time())
        super().begin()


async def test_who_works_aside_begins_when_no_hook_has_been_answered_for_a_moment() -> None:
    way, aside, began = RightOfWay(), Begun(), await now()
    aside.heed(way)

    way.enter()
    await asyncio.sleep(1)
    way.leave()
    await asyncio.sleep(QUIET_SECONDS / 2)
    way.enter()  # prioritize, after filter
    way.enter()
    way.leave()
    await asyncio.sleep(1)
    assert not aside.at

    way.leave()
    await asyncio.sleep(1)
    assert aside.at == [pytest.approx(began + 2 + QUIET_SECONDS * 1.5)]
    aside.wait(has_work=False)  # it need not


async def test_who_works_aside_is_told_as_long_as_anybody_refers_to_it() -> None:
    way, aside = RightOfWay(), Begun()
    aside.heed(way)
    told = aside.at
    del aside

    way.enter()
    way.leave()
    await asyncio.sleep(1)
    assert not told


class Clock:
    """Time that passes while somebody rests, and when a test lets it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.rests: list[float] = []

    def rest(self, seconds: float) -> None:
        self.rests.append(seconds)
        self.now += seconds

    def aside(self, way: RightOfWay) -> Aside:
        aside = Aside(lambda: self.now, self.rest)
        aside.heed(way)
        aside.begin()
        aside.begin()  # as if told by two hooks
        aside.wait(has_work=True)
        return aside


async def test_who_works_aside_rests_between_two_moments_and_stops_for_a_hook() -> None:
    way, clock = RightOfWay(), Clock()
    aside = clock.aside(way)
    assert aside.goes_on()
    assert not clock.rests

    clock.now += MOMENT_SECONDS
    assert aside.goes_on()
    assert clock.rests == [REST_SECONDS]

    way.enter()
    assert aside.goes_on(), "what it has begun"
    clock.now += MOMENT_SECONDS
    assert not aside.goes_on()
    assert len(clock.rests) == 1


async def test_a_hook_that_comes_while_who_works_aside_rests_is_not_kept_waiting() -> None:
    way, clock = RightOfWay(), Clock()
    aside = clock.aside(way)
    clock.now += MOMENT_SECONDS
    aside._rest = lambda _: way.enter()

    assert not aside.goes_on()


async def test_who_works_aside_in_a_hurry_goes_on_beside_a_hook_but_not_for_ever() -> None:
    way, clock = RightOfWay(), Clock()
    aside = clock.aside(way)
    way.enter()

    clock.now += MOMENT_SECONDS
    assert aside.goes_on(hurry=True)
    assert not clock.rests
    clock.now = LOOK_SECONDS
    assert not aside.goes_on(hurry=True)
