"""A shadow's process gives its processor up again and again, and loses no news by that."""

from __future__ import annotations

import os
import signal
import time

import pytest

from extender.shadow.turns import TURN_SECONDS, short_turns

UNUSED = (0.0, 0.0)


@pytest.fixture
def yields(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often the processor has been given up: one for each time."""
    made: list[int] = []
    monkeypatch.setattr(os, "sched_yield", lambda: made.append(1))
    return made


def test_what_only_computes_gives_the_processor_up_again_and_again(yields: list[int]) -> None:
    with short_turns():
        for _ in range(100_000_000):  # seconds: ends because a timer interrupts it
            if len(yields) >= 3:
                break
    assert len(yields) >= 3


def test_nothing_is_interrupted_afterwards_and_the_signal_is_handled_as_before() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(RuntimeError, match="amid the news"), short_turns():
        raise RuntimeError("amid the news")
    assert signal.getitimer(signal.ITIMER_REAL) == UNUSED
    assert signal.getsignal(signal.SIGALRM) is before


def test_what_waits_to_write_goes_on_where_it_was_interrupted(yields: list[int]) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    full = os.write(writing, bytes(1 << 20))
    os.set_blocking(writing, True)
    os.set_blocking(reading, False)

    def make_room() -> None:
        yields.append(1)
        if len(yields) == 3:
            os.read(reading, full)

    with pytest.MonkeyPatch.context() as patch, short_turns():
        patch.setattr(os, "sched_yield", make_room)
        assert os.write(writing, b"news") == len(b"news")
    assert len(yields) >= 3
    assert os.read(reading, full) == b"news"
    os.close(reading)
    os.close(writing)


def test_turns_that_others_keep_for_long_do_not_come_one_within_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the processor is not got back before the next alarm is due, as on a busy machine."""
    depth, deepest, made = 0, 0, 0

    def kept_for_long() -> None:
        nonlocal depth, deepest, made
        made, depth = made + 1, depth + 1
        deepest = max(deepest, depth)
        until = time.perf_counter() + 2 * TURN_SECONDS
        while depth < 10 and time.perf_counter() < until:
            pass
        depth -= 1

    monkeypatch.setattr(os, "sched_yield", kept_for_long)
    with short_turns():
        for _ in range(100_000_000):
            if made >= 3:
                break
    assert made >= 3
    assert deepest == 1
