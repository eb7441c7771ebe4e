"""Going on in a log from what it tells of the state, where the calls that led there are gone."""

from __future__ import annotations

from typing import assert_never

import msgspec
import structlog

from extender.decision_log.layout import (
    End,
    Entry,
    Gap,
    Header,
    LogUnreadable,
    Restated,
    Restating,
)
from extender.decision_log.reading import Damage, Item
from extender.decision_log.stage import Stage

log = structlog.get_logger()


class Resumption:
    """Leads to the states that are told in the run of a *header*, each on a fresh stage."""

    def __init__(self, header: Header) -> None:
        self._header = header
        self._stage: Stage | None = None
        self._n = 0
        self._made = 0

    def take(self, call: Restating) -> None:
        """Make a call that leads to a state; one that fails is not counted.

        Raises:
            LogUnreadable: there is no such call.
        """
        if self._stage is None or call.n != self._n:
            self._stage, self._n, self._made = Stage(self._header), call.n, 0
        try:
            self._stage.make(call)
        except LogUnreadable:
            raise
        except Exception:  # then the state is not whole
            log.exception("state_not_restored", run=self._header.run, n=call.n, call=call.call)
        else:
            self._made += 1

    def whole(self, state: Restated) -> Stage | None:
        """Return the stage on which all calls of a state were made, None if they were not."""
        stage, self._stage = self._stage, None
        as_told = self._n == state.n and self._made == state.calls
        return stage if as_told else None


class Step(msgspec.Struct, frozen=True):
    """What an item of a run has shown: a *gap*, of so many calls *missing*, or a state told."""

    gap: bool = False
    missing: int = 0
    resumed: bool = False


class Progress:
    """How far the run of a *header* has been followed.

    ``stage`` is as of call ``last``; ``whole`` tells whether no call is missing that led there. A
    later file than the first begins with how all stood.
    """

    def __init__(self, header: Header) -> None:
        self._from_the_first = header.file == 1
        self.stage, self.last, self.whole = Stage(header), 0, self._from_the_first
        self._resumption = Resumption(header)

    def take(self, item: Item) -> Step:
        """Follow an item; calls are for others to make, on the ``stage``, after this."""
        match item:
            case Entry(n=n):
                return self._at(n, n - 1)
            case Restating(n=n):
                if n > self.last or not self.whole:
                    self._resumption.take(item)
            case Restated(n=n):
                if (found := self._resumption.whole(item)) is not None:
                    known = bool(self.last) or self._from_the_first
                    step = self._at(n, n) if known else Step(resumed=True)
                    self.stage, self.last, self.whole = found, n, True
                    return step
            case Gap() | Damage():
                self.whole = False
            case End(end=end):
                return self._at(end, end)
            case unexpected:
                assert_never(unexpected)
        return Step()

    def _at(self, n: int, due: int) -> Step:
        """Be at call *n*, before which the last was to be the one that is *due*."""
        before, self.last = self.last, n
        if before == due:
            return Step()
        self.whole = False
        return Step(gap=True, missing=max(0, due - before))
