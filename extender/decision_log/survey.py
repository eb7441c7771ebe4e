"""How the fleet stood when a log ended, and what was asked for until then: for who asks "what if".

The calls are made again, as for :func:`extender.decision_log.reproduced`. Of several runs the fleet
is that of the one that decided last; one that ends with calls missing has none to tell of. Requests
are of all of them, those of before fade until then. How many instances were wanted is counted as
each day ended, or the run, in those that led.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import assert_never

import msgspec
import structlog

from extender.decision_log.layout import (
    DECISIONS,
    End,
    Entry,
    Gap,
    Header,
    LogUnreadable,
    Restated,
    Restating,
)
from extender.decision_log.reading import Damage, Item, Run
from extender.decision_log.resumption import Resumption
from extender.decision_log.stage import Stage
from extender.overview.baseline import baseline
from extender.policy.observed import ObservedMix
from extender.service.headcount import wanted
from extender.service.knowledge import Knowledge
from extender.service.surveying import requests
from extender.simulation.baseline import Baseline
from extender.simulation.history import DAY, History
from nodeagent.api import rfc3339

log = structlog.get_logger()

NEVER = float("-inf")


def survey(runs: Sequence[Run]) -> Baseline:
    """Return the fleet as it stood in the end.

    Raises:
        LogUnreadable: calls are missing, and nothing after them tells how all stood; or a call is
            none that this program knows, or a header or a reading of the clock makes no sense.
    """
    last: _Played | None = None
    mixes: list[ObservedMix] = []
    days: dict[int, Mapping[str, int]] = {}
    for run in runs:
        played = _Played(run)
        mixes += played.mixes
        days |= played.days
        if played.whole and (last is None or played.rank >= last.rank):
            last = played
    if last is None:
        raise LogUnreadable(
            "calls are missing in the end, and nothing after them tells how all stood"
        )
    days[int(last.now) // DAY] = wanted(last.knowledge)
    history = History()
    for day in sorted(days):
        history = history.noted(day, days[day])
    asked = msgspec.structs.replace(
        requests(last.knowledge), lately=_as_of(last.now, mixes), history=history
    )
    return baseline(
        tuple(last.knowledge.views.values()),
        asked,
        policy=last.knowledge.in_force.policy.effective.value,
        at=_told(last.now),
    )


class _Played:
    """A run, played to its end.

    ``now`` is when it ended, in seconds since 1970; ``whole`` whether ``knowledge`` is what its
    extender knew then. ``mixes`` are what it was asked for, ``days`` what was wanted as each ended.
    """

    def __init__(self, run: Run) -> None:
        self.whole = run.header.file == 1  # a later file begins with how all stands
        self.days: dict[int, Mapping[str, int]] = {}
        self._before: list[ObservedMix] = []
        self._run = run
        self._stage, self._last = Stage(run.header), 0
        self._resumption = Resumption(run.header)
        self._began = self.now = _began(run.header)
        self._first: float | None = None
        self._decided_at = NEVER
        for item in run.items():
            self._take(item)
        if self.whole and self._decided_at > NEVER:
            self.days[int(self.now) // DAY] = wanted(self.knowledge)

    @property
    def knowledge(self) -> Knowledge:
        """What was known as of the last call."""
        return self._stage.knowledge

    @property
    def mixes(self) -> Sequence[ObservedMix]:
        """What was asked for: of one state after the other, for none tells of those before."""
        return (*self._before, self._mix())

    @property
    def rank(self) -> tuple[float, float]:
        """Whose fleet counts: of the run that decided last, if none did, that ended last."""
        return self._decided_at, self.now

    def _mix(self) -> ObservedMix:
        seen = self.knowledge.demand.mix
        return ObservedMix(seen.half_life, self.now, seen.as_of(self.knowledge.clock()).counts)

    def _take(self, item: Item) -> None:
        match item:
            case Entry():
                self._call(item)
            case Restating(n=n):
                if n > self._last or not self.whole:
                    self._resumption.take(item)
            case Restated(n=n):
                if (found := self._resumption.whole(item)) is not None:
                    self._before.append(self._mix())
                    self._stage, self._last, self.whole = found, n, True
            case End(end=end):
                self.whole = self.whole and end == self._last
            case Gap() | Damage():
                self.whole = False
            case unexpected:
                assert_never(unexpected)

    def _call(self, call: Entry) -> None:
        self.whole = self.whole and call.n == self._last + 1
        self._last = call.n
        if call.at:
            self._first = call.at[0] if self._first is None else self._first
            self._come_to(self._began + call.at[-1] - self._first)
        if call.call in DECISIONS and "error" not in (call.gave or {}):
            self._decided_at = self.now
        try:
            self._stage.make(call)
        except LogUnreadable:
            raise
        except Exception:  # what failed then fails again
            log.exception("call_failed", run=self._run.header.run, n=call.n, call=call.call)

    def _come_to(self, now: float) -> None:
        _told(now)
        day = int(self.now) // DAY
        if self.whole and int(now) // DAY > day and not self.knowledge.not_ready():
            self.days[day] = wanted(self.knowledge)
        self.now = max(self.now, now)


def _began(header: Header) -> float:
    """Return when a run began, in seconds since 1970."""
    try:
        began = datetime.fromisoformat(header.began)
    except ValueError as error:
        raise LogUnreadable(f"run {header.run}: its header makes no sense: {error}") from error
    return began.replace(tzinfo=began.tzinfo or UTC).timestamp()


def _told(now: float) -> str:
    try:
        return rfc3339.seconds(datetime.fromtimestamp(now, UTC))
    except (ValueError, OverflowError, OSError) as error:
        raise LogUnreadable(f"the clock has read {now:g} s: {error}") from error


def _as_of(now: float, mixes: Iterable[ObservedMix]) -> dict[str, float]:
    """Return what was asked for in all of them, as it counts at a moment."""
    total = Counter[str]()
    for mix in mixes:
        total.update(mix.as_of(now).counts)
    return {name: round(count, 3) for name, count in total.items()}
