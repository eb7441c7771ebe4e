"""What has been asked for outlives the process that saw it, and nobody is told nonsense."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from extender.policy.observed import ObservedMix
from extender.service.demand import HALF_LIFE_SECONDS, Demand
from extender.service.memory import (
    KEEP_SECONDS,
    LONGEST,
    LONGEST_NAME,
    Memory,
    UnreadableNote,
    read,
    write,
)
from extender.simulation.history import MOST_PERIODS, MOST_PROFILES, History

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
HISTORY = History((20_457, 20_458), {"1g.10gb": (3, 4)})


def mix(at: float = 0.0, **counts: float) -> ObservedMix:
    return ObservedMix(HALF_LIFE_SECONDS, at, MappingProxyType(dict(counts)))


class Process:
    """A process with its own monotonic clock, which began at some moment of the calendar."""

    def __init__(self, began: datetime, clock: float) -> None:
        self.offset = began - timedelta(seconds=clock)
        self.now = clock
        self.demand = Demand(clock)
        self.memory = Memory(
            self.demand,
            clock=lambda: self.now,
            utc_now=lambda: self.offset + timedelta(seconds=self.now),
        )


def test_a_successor_knows_what_was_asked_for_and_it_has_faded_meanwhile() -> None:
    before, after = Process(NOON, 1e6), Process(NOON + timedelta(days=7), 3.0)
    before.demand.mix, before.demand.history = mix(1e6, a=8.0, b=2.0), HISTORY

    after.memory.recall(before.memory.told())

    assert after.demand.mix.weight(now=3.0) == pytest.approx(5.0)
    assert after.demand.mix.shares(("a", "b")) == before.demand.mix.shares(("a", "b"))
    assert after.demand.history == HISTORY


def test_a_note_from_the_future_is_as_of_now() -> None:
    before, after = Process(NOON, 0.0), Process(NOON - timedelta(hours=9), 50.0)
    before.demand.mix = mix(a=8.0)

    after.memory.recall(before.memory.told())

    assert after.demand.mix.weight(now=50.0) == pytest.approx(8.0)


def test_a_note_is_left_now_and_then_and_only_if_there_is_something_to_tell() -> None:
    process = Process(NOON, 0.0)
    assert process.memory.due() is None

    process.demand.mix = mix(a=1.0)
    first = process.memory.due()
    assert first is not None
    assert process.memory.due() == first  # before it is known to be there
    process.memory.kept(first)

    process.now = KEEP_SECONDS - 1.0
    assert process.memory.due() is None
    process.now = KEEP_SECONDS
    assert process.memory.due() is not None


def test_who_finds_its_own_note_goes_on_with_what_it_has_seen_since() -> None:
    process = Process(NOON, 0.0)
    process.demand.mix = mix(a=1.0)
    note = process.memory.told()
    process.memory.kept(note)
    process.demand.mix = mix(a=2.0)

    process.memory.recall(note)

    assert process.demand.mix == mix(a=2.0)


@given(
    st.dictionaries(st.text(max_size=70), st.floats(0, 1e6), max_size=MOST_PROFILES + 8),
    st.lists(
        st.tuples(st.integers(0, 40), st.dictionaries(st.text(max_size=70), st.integers(0, 10**6))),
        max_size=40,
    ),
)
def test_whatever_is_told_can_be_read_again(
    counts: dict[str, float], looks: list[tuple[int, dict[str, int]]]
) -> None:
    history = History()
    for day, wanted in looks:
        history = history.noted(day, {name: n for name, n in wanted.items() if name})
    note = write(
        ObservedMix(
            HALF_LIFE_SECONDS, 0.0, MappingProxyType({n: c for n, c in counts.items() if n})
        ),
        history,
        now=0.0,
        at=NOON,
    )

    found, days = read(note, now=0.0, at=NOON)

    assert days.periods == history.periods
    assert days.wanted == {n: row for n, row in history.wanted.items() if len(n) <= LONGEST_NAME}
    for name, count in found.counts.items():
        assert count == pytest.approx(counts[name], abs=0.001)


def test_a_note_of_a_great_many_profiles_stays_within_bounds() -> None:
    names = [f"{at}g.{at}gb+me.all" for at in range(100)]
    history = History()
    for day in range(60):
        history = history.noted(day, dict.fromkeys(names, 99_999))

    note = write(mix(**dict.fromkeys(names, 99_999.123)), history, now=0.0, at=NOON)

    assert len(note) < LONGEST / 1.5
    assert len(read(note, now=0.0, at=NOON)[0].counts) == MOST_PROFILES


GOOD = msgspec.json.decode(write(mix(a=1.0), HISTORY, now=0.0, at=NOON))


def changed(**fields: Any) -> str:
    return msgspec.json.encode({**GOOD, **fields}).decode()


@pytest.mark.parametrize(
    ("note", "says"),
    [
        ("{", "truncated"),
        ("null", "Expected `object`"),
        ("x" * (LONGEST + 1), "more than 16384"),
        (changed(version=2), "version 2, this is 1"),
        (changed(at="yesterday"), "yesterday"),
        (changed(at="2026-01-05T12:00:00"), "no time zone"),
        (changed(mix={"a": -1.0}), r"\$.mix"),
        (changed(mix={"a": "many"}), r"\$.mix"),
        (changed(mix={"": 1.0}), "Expected `str`"),
        (changed(mix={f"{at}g": 1.0 for at in range(MOST_PROFILES + 1)}), "more than 32 profiles"),
        (changed(days=[2, 1], wanted={}), "one after the other"),
        (changed(days=list(range(MOST_PERIODS + 1)), wanted={}), "at most 28"),
        (changed(wanted={"a": [1]}), "one number for each day"),
        (changed(mix=None), r"\$.mix"),
    ],
)
def test_a_note_that_is_damaged_or_foreign_is_left_aside_with_a_warning(
    note: str, says: str
) -> None:
    process = Process(NOON, 0.0)
    process.demand.mix = mix(a=3.0)
    with pytest.raises(UnreadableNote, match=says):
        read(note, now=0.0, at=NOON)

    with capture_logs() as logs:
        process.memory.recall(note)

    assert [(each["event"], each["log_level"]) for each in logs] == [
        ("demand_note_ignored", "warning")
    ]
    assert process.demand.mix == mix(a=3.0)
    assert process.memory.due() is not None  # and it will be written over
