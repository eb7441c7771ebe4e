"""What anybody can make expensive holds the loop for its share of the time."""

from __future__ import annotations

import asyncio

import pytest

from extender.server.turns import Turns
from tests.virtual_time import in_virtual_time


async def works(turns: Turns, seconds: float, *, within: float = 1e6) -> float:
    """Take a turn of so many seconds; return when it began."""
    async with turns.turn(within):
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(seconds)  # stands for work that holds the loop
        return began


def test_after_a_turn_the_next_waits_nine_times_as_long_as_it_took() -> None:
    async def work() -> list[float]:
        turns = Turns(share=0.1)
        return list(await asyncio.gather(*(works(turns, took) for took in (1.0, 2.0, 0.5, 0.0))))

    assert in_virtual_time(work()) == pytest.approx([0.0, 10.0, 30.0, 35.0])


def test_whoever_comes_after_the_pause_does_not_wait() -> None:
    async def work() -> float:
        turns = Turns(share=0.1)
        await works(turns, 1.0)
        await asyncio.sleep(9.0)
        return await works(turns, 1.0)

    assert in_virtual_time(work()) == pytest.approx(10.0)


def test_a_turn_that_does_not_come_in_time_is_given_up_and_the_others_move_up() -> None:
    async def work() -> float:
        turns = Turns(share=0.1)
        await works(turns, 1.0)
        with pytest.raises(TimeoutError):
            await works(turns, 1.0, within=5.0)
        return await works(turns, 1.0)

    assert in_virtual_time(work()) == pytest.approx(10.0)


def test_a_turn_itself_may_last_as_long_as_it_takes() -> None:
    assert in_virtual_time(works(Turns(share=0.5), 60.0, within=5.0)) == 0.0


async def fails(turns: Turns) -> None:
    async with turns.turn(1.0):
        await asyncio.sleep(1.0)
        raise ValueError("no")


def test_work_that_fails_has_had_its_turn() -> None:
    async def work() -> float:
        turns = Turns(share=0.1)
        with pytest.raises(ValueError, match="no"):
            await fails(turns)
        return await works(turns, 0.0)

    assert in_virtual_time(work()) == pytest.approx(10.0)
