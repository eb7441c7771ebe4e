"""How the fleet stood when a log ended, and what was asked for until then: for who asks "what if".

The calls are made again, as for :func:`extender.decision_log.reproduced`. Of several runs the fleet
is that of the one that decided last, and requests are of all that decided: those of an earlier one
fade until then. How many instances were wanted is counted as each day ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import assert_never

import msgspec
import structlog

from extender.decision_log.layout import (
    DECISIONS,
    End,
    Entry,
    Gap,
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


def survey(runs: Sequence[Run]) -> Baseline:
    """Return the fleet as it stood in the end.

    Raises:
        LogUnreadable: calls are missing, and nothing after them tells how all stood; or a call is
            none that this program knows.
    """
    last: _Played | None = None
    mixes: list[ObservedMix] = []
    history = History()
    for run in runs:
        played = _Played(run, history)
        history = played.history
        if played.whole and played.decided:
            mixes.append(played.mix)
        if played.whole and (last is None or played.rank >= last.rank):
            last = played
    if last is None:
        raise LogUnreadable(
            "calls are missing, and no later file tells how all stood: give files that do, or a"
            " folder with all there are"
        )
    asked = msgspec.structs.replace(
        requests(last.knowledge),
        lately=_as_of(last.now, mixes),
        history=history.noted(int(last.now) // DAY, wanted(last.knowledge)),
    )
    return baseline(
        tuple(last.knowledge.views.values()),
        asked,
        policy=last.knowledge.in_force.policy.effective.value,
        at=rfc3339.seconds(datetime.fromtimestamp(last.now, UTC)),
    )


class _Played:
    """A run, played to its end, with what was wanted on each day before.

    ``now`` is when it ended, in seconds since 1970; ``whole`` whether ``knowledge`` is what its
    extender knew then, ``decided`` whether it was asked to decide anything.
    """

    def __init__(self, run: Run, history: History) -> None:
        self.history = history
        self.whole = True
        self.decided = False
        self._run = run
        self._stage, self._last = Stage(run.header), 0
        self._resumption = Resumption(run.header)
        self._began = self.now = datetime.fromisoformat(run.header.began).timestamp()
        self._first: float | None = None
        for item in run.items():
            self._take(item)

    @property
    def knowledge(self) -> Knowledge:
        """What was known as of the last call."""
        return self._stage.knowledge

    @property
    def mix(self) -> ObservedMix:
        """What was asked for, as of ``now``."""
        seen = self.knowledge.demand.mix
        return ObservedMix(seen.half_life, self.now, seen.as_of(self.knowledge.clock()).counts)

    @property
    def rank(self) -> tuple[bool, float]:
        """Whose fleet counts: of those that decided, if any did, the one that ended last."""
        return self.decided, self.now

    def _take(self, item: Item) -> None:
        match item:
            case Entry():
                self._call(item)
            case Restating(n=n):
                if n > self._last or not self.whole:
                    self._resumption.take(item)
            case Restated(n=n):
                if (found := self._resumption.whole(item)) is not None:
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
            now = self._began + call.at[-1] - self._first
            if self.whole and int(now) // DAY > int(self.now) // DAY:
                self.history = self.history.noted(int(self.now) // DAY, wanted(self.knowledge))
            self.now = max(self.now, now)
        self.decided = self.decided or call.call in DECISIONS
        try:
            self._stage.make(call)
        except LogUnreadable:
            raise
        except Exception:  # what failed then fails again
            log.exception("call_failed", run=self._run.header.run, n=call.n, call=call.call)


def _as_of(now: float, mixes: Iterable[ObservedMix]) -> dict[str, float]:
    """Return what was asked for in all of them, as it counts at a moment."""
    total = Counter[str]()
    for mix in mixes:
        total.update(mix.as_of(now).counts)
    return {name: round(count, 3) for name, count in total.items()}
