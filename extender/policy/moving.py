"""Whether VMs are moved to make room: by advice alone, or by Tangram, how fast and when.

moves: {mode: apply, perHour: 20, windows: [{days: [sat, sun]}], paused: false, patience: 600,
        costs: {restart: 20}}

Which VMs may be moved is said elsewhere: by their tenant's ``movable``, and by each pod.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, NamedTuple

import msgspec

from extender.policy.costs import Costs
from extender.policy.windows import Window, open_at, opens_after

HOUR = timedelta(hours=1)


class Mode(StrEnum):
    """What is done about moves."""

    OFF = "off"
    """Nothing: no plan is made for anybody."""
    ADVISE = "advise"
    """Whoever asks is told which moves would attain a goal."""
    APPLY = "apply"
    """Besides, such moves are made where somebody says so."""


class Why(StrEnum):
    """Why no move is begun now."""

    NOT_APPLIED = "the policy's moves.mode is not apply"
    PAUSED = "the policy's moves.paused is true"
    CLOSED = "no window of the policy's moves.windows is open"
    ENOUGH_AN_HOUR = "as many moves were begun within an hour as the policy's moves.perHour allows"


class Wait(NamedTuple):
    """Why no move is begun now; ``until`` is when that ends by itself, None if it does not."""

    why: Why
    until: datetime | None = None


class Moving(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """How VMs are moved.

    One at a time, at most ``per_hour`` are begun within any hour, and only while a window is open,
    if there are any; a move whose VM has left is carried to its end. ``paused``: none is begun,
    whatever else is said. For so many seconds of ``patience`` an eviction is asked for that is
    refused, None for as long as for a preemption; no move takes longer
    than its own time, though. Of plans with as few moves the one is made that ``costs`` least.
    """

    mode: Mode = Mode.ADVISE
    per_hour: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 12
    windows: tuple[Window, ...] = ()
    paused: bool = False
    patience: Annotated[int, msgspec.Meta(ge=0, le=86_400)] | None = None
    costs: Costs = Costs()

    @property
    def advises(self) -> bool:
        """Whether it is told which moves would help."""
        return self.mode is not Mode.OFF

    def open_at(self, time: datetime) -> bool:
        """Tell whether the windows let moves begin at a *time*, which knows its zone."""
        return open_at(self.windows, time)

    def opens_after(self, time: datetime) -> datetime:
        """Return the first moment, *time* itself or after it, at which that is so, in UTC."""
        return opens_after(self.windows, time)

    def wait(self, now: datetime, begun: Sequence[datetime]) -> Wait | None:
        """Return why no move is begun *now*, None if one may be.

        *begun* are the times at which moves were begun, as far back as an hour. All times know
        their zone.
        """
        if self.mode is not Mode.APPLY:
            return Wait(Why.NOT_APPLIED)
        if self.paused:
            return Wait(Why.PAUSED)
        if not self.open_at(now):
            return Wait(Why.CLOSED, self.opens_after(now))
        lately = sorted(each for each in begun if each > now - HOUR)
        if len(lately) >= self.per_hour:
            return Wait(Why.ENOUGH_AN_HOUR, (lately[-self.per_hour] + HOUR).astimezone(UTC))
        return None
