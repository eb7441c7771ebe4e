"""Going on in a log from what it tells of the state, where the calls that led there are gone."""

from __future__ import annotations

import structlog

from extender.decision_log.layout import Header, LogUnreadable, Restated, Restating
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
