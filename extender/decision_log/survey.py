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

import msgspec
import structlog

from extender.decision_log.layout import (
    DECISIONS,
    Entry,
    Header,
    LogUnreadable,
    Restated,
)
from extender.decision_log.reading import Item, Run
from extender.decision_log.resumption import Progress
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

    ``now`` is when it ended, in seconds since 1970; ``days`` what was wanted as each ended.
    """

    def __init__(self, run: Run) -> None:
        self.days: dict[int, Mapping[str, int]] = {}
        self._before: list[ObservedMix] = []
        self._run = run
        self._progress = Progress(run.header)
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
        return self._progress.stage.knowledge

    @property
    def whole(self) -> bool:
        """Whether that is what the extender knew."""
        return self._progress.whole

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
        stage, seen = self._progress.stage, self._mix() if isinstance(item, Restated) else None
        self._progress.take(item)
        if seen is not None and self._progress.stage is not stage:
            self._before.append(seen)
        if isinstance(item, Entry):
            self._call(item)

    def _call(self, call: Entry) -> None:
        if call.at:
            self._first = call.at[0] if self._first is None else self._first
            self._come_to(self._began + call.at[-1] - self._first)
        if call.call in DECISIONS and "error" not in (call.gave or {}):
            self._decided_at = self.now
        try:
            self._progress.stage.make(call)
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
