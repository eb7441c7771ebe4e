"""Times of the week at which something may be done, in UTC.

{days: [sat, sun], from: "22:00", to: "04:00"}   # from Saturday and from Sunday evening on
{to: "06:00"}                                    # every day, from midnight on
{days: [sun]}                                    # all of Sunday
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import msgspec

TimeOfDay = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$",
        description='a time of day in quotes, from "00:00" to "24:00"',
    ),
]
"""Hours and minutes, UTC; ``24:00`` is the midnight that ends the day."""

MIDNIGHT, END_OF_DAY = "00:00", "24:00"

_DAY = timedelta(days=1)
_WEEK = timedelta(weeks=1)


class Day(StrEnum):
    """A day of the week."""

    MONDAY = "mon"
    TUESDAY = "tue"
    WEDNESDAY = "wed"
    THURSDAY = "thu"
    FRIDAY = "fri"
    SATURDAY = "sat"
    SUNDAY = "sun"


EVERY_DAY = tuple(Day)


class Window(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """The time *from* one time of day *to* another, on the *days* on which it begins.

    One that would end before it begins ends on the day after. The end is no longer part of it.
    """

    days: tuple[Day, ...] = EVERY_DAY
    begins: TimeOfDay = msgspec.field(default=MIDNIGHT, name="from")
    ends: TimeOfDay = msgspec.field(default=END_OF_DAY, name="to")

    def __str__(self) -> str:
        days = "every day" if set(self.days) == set(Day) else ", ".join(self.days)
        whole = (self.begins, self.ends) == (MIDNIGHT, END_OF_DAY)
        return f"{days}, all day" if whole else f"{days}, {self.begins} to {self.ends}"

    @property
    def lasts(self) -> timedelta:
        """How long it is open at a time; nothing, if it ends as it begins."""
        length = _since_midnight(self.ends) - _since_midnight(self.begins)
        return length if length >= timedelta() else length + _DAY

    def open_at(self, time: datetime) -> bool:
        """Tell whether it is open at a *time*, which knows its zone."""
        return any(since < self.lasts for since in self._since_beginnings(time))

    def opens_after(self, time: datetime) -> datetime:
        """Return when it begins for the next time, at *time* or after."""
        until = min(-since % _WEEK for since in self._since_beginnings(time))
        return time.astimezone(UTC) + until

    def faults(self) -> Iterator[tuple[str, str, str]]:
        """Yield what makes no sense in it: where, what, and the remedy."""
        if not self.days:
            yield ".days", "lists no day", "list some, or leave it out for every day"
        if len(set(self.days)) < len(self.days):
            yield ".days", "lists a day twice", "list it once"
        if self.begins == END_OF_DAY:
            yield ".from", "is the end of a day", f'write "{MIDNIGHT}" and the day after'
        elif not self.lasts:
            yield ".to", "is when the window begins", 'for whole days leave "from" and "to" out'

    def _since_beginnings(self, time: datetime) -> Iterator[timedelta]:
        """Yield how long ago, up to a week, it last began on each of its days."""
        utc = time.astimezone(UTC)
        midnight = utc.replace(hour=0, minute=0, second=0, microsecond=0)
        of_week = utc - midnight + utc.weekday() * _DAY
        for day in self.days:
            began = EVERY_DAY.index(day) * _DAY + _since_midnight(self.begins)
            yield (of_week - began) % _WEEK


def open_at(windows: Sequence[Window], time: datetime) -> bool:
    """Tell whether any window is open at a *time*, which knows its zone; without any, always."""
    return not windows or any(each.open_at(time) for each in windows)


def opens_after(windows: Sequence[Window], time: datetime) -> datetime:
    """Return the first moment, *time* itself or after it, at which it is open, in UTC."""
    if open_at(windows, time):
        return time.astimezone(UTC)
    return min(each.opens_after(time) for each in windows)


def _since_midnight(time: TimeOfDay) -> timedelta:
    hours, _, minutes = time.partition(":")
    return timedelta(hours=int(hours), minutes=int(minutes))
