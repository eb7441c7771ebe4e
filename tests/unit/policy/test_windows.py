"""Maintenance windows: by the week, in UTC, across midnight."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from extender.policy.windows import Day, Window, open_at, opens_after

MONDAY = datetime(2026, 11, 30, tzinfo=UTC)
WEEK_MINUTES = 7 * 24 * 60


def window(text: str) -> Window:
    return msgspec.yaml.decode(text, type=Window)


def at(day: Day, clock: str) -> datetime:
    hours, _, minutes = clock.partition(":")
    return MONDAY + timedelta(days=list(Day).index(day), hours=int(hours), minutes=int(minutes))


NIGHTS = window('{days: [sat, sun], from: "22:00", to: "04:00"}')


@pytest.mark.parametrize(
    ("day", "clock", "is_open"),
    [
        (Day.SATURDAY, "21:59", False),
        (Day.SATURDAY, "22:00", True),
        (Day.SUNDAY, "03:59", True),
        (Day.SUNDAY, "04:00", False),
        (Day.MONDAY, "03:59", True),
        (Day.MONDAY, "04:00", False),
        (Day.SATURDAY, "03:00", False),
        (Day.MONDAY, "22:00", False),
    ],
)
def test_a_window_across_midnight_belongs_to_the_day_it_begins_on(
    day: Day, clock: str, is_open: bool
) -> None:
    assert NIGHTS.open_at(at(day, clock)) is is_open


def test_a_day_alone_is_all_of_it_and_hours_alone_are_those_of_every_day() -> None:
    sunday, early = window("{days: [sun]}"), window('{to: "06:00"}')

    assert sunday.open_at(at(Day.SUNDAY, "00:00"))
    assert sunday.open_at(at(Day.SUNDAY, "23:59"))
    assert not sunday.open_at(at(Day.MONDAY, "00:00"))
    assert all(early.open_at(at(day, "05:59")) for day in Day)
    assert not any(early.open_at(at(day, "06:00")) for day in Day)


def test_a_zone_makes_no_difference_but_to_what_the_clock_shows() -> None:
    east = timezone(timedelta(hours=9))
    there = at(Day.SATURDAY, "22:30").astimezone(east)

    assert there.weekday() == list(Day).index(Day.SUNDAY)
    assert NIGHTS.open_at(there)
    assert opens_after([NIGHTS], there - timedelta(hours=1)) == at(Day.SATURDAY, "22:00")


def test_without_windows_it_is_always_open() -> None:
    assert open_at((), MONDAY)
    assert opens_after((), MONDAY) == MONDAY


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{days: [sat, sun], from: "22:00", to: "04:00"}', "sat, sun, 22:00 to 04:00"),
        ("{days: [sun]}", "sun, all day"),
        ('{to: "06:00"}', "every day, 00:00 to 06:00"),
    ],
)
def test_a_window_can_be_told(text: str, says: str) -> None:
    assert str(window(text)) == says


clocks = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59))
windows = st.builds(
    Window,
    days=st.lists(st.sampled_from(Day), unique=True, min_size=1).map(tuple),
    begins=clocks,
    ends=clocks | st.just("24:00"),
)
times = st.timedeltas(timedelta(weeks=-500), timedelta(weeks=500)).map(MONDAY.__add__)


def minutes(window: Window) -> set[int]:
    """Return the minutes of the week in which it is open, walked through one by one."""
    found = set()
    for day in window.days:
        now = minute(at(day, window.begins))
        while True:
            found.add(now)
            now = (now + 1) % WEEK_MINUTES
            if f"{now // 60 % 24:02}:{now % 60:02}" == window.ends.replace("24:00", "00:00"):
                break
    return found


def minute(time: datetime) -> int:
    return (time.weekday() * 24 + time.hour) * 60 + time.minute


@given(st.lists(windows, min_size=1, max_size=3), times)
def test_it_is_open_in_the_minutes_between_and_opens_with_the_first_of_them(
    several: list[Window], time: datetime
) -> None:
    assume(all(each.lasts for each in several))
    of_week = set().union(*map(minutes, several))

    assert open_at(several, time) is (minute(time) in of_week)
    opens = opens_after(several, time)
    if minute(time) in of_week:
        assert opens == time
    else:
        ahead = min((each - minute(time)) % WEEK_MINUTES for each in of_week)
        assert opens == time.replace(second=0, microsecond=0) + timedelta(minutes=ahead)
        assert not open_at(several, opens - timedelta(microseconds=1))
