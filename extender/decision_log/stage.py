"""The deciding state alone, on which recorded calls are made again: no cluster, loop or clock."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from extender.decision_log.decoding import arguments
from extender.decision_log.layout import Entry, Header, LogUnreadable, Restating
from extender.service.choosing import Chooser
from extender.service.gangs import Gangs
from extender.service.hooks import Hooks
from extender.service.knowledge import PROMISES, Knowledge
from extender.service.seam import Seam, method_of
from extender.service.tenure import Tenure


class Said:
    """A clock that says what it is told to; once it has said all, the last again."""

    def __init__(self) -> None:
        self._last = 0.0
        self._left: Iterator[float] = iter(())

    def next(self, readings: Iterable[float]) -> None:
        """Say these from here on."""
        self._left = iter(readings)

    def __call__(self) -> float:
        """Return the time in seconds."""
        self._last = next(self._left, self._last)
        return self._last


class Stage:
    """What decides in an extender, as it was when the run of that *header* began.

    Raises:
        LogUnreadable: its policy and settings are none that anything can go by.
    """

    def __init__(self, header: Header) -> None:
        try:
            self._set_up(header)
        except (ValueError, OverflowError, MemoryError) as error:
            raise LogUnreadable(f"run {header.run}: its header makes no sense: {error}") from error

    def _set_up(self, header: Header) -> None:
        self._said = Said()
        seam = Seam(self._said)
        until = math.inf if header.leads else -math.inf
        tenure = Tenure(seam.clock, until=until, seam=seam)
        self.knowledge = Knowledge(
            header.settings, header.policy, clock=seam.clock, tenure=tenure, seam=seam
        )
        hooks = Hooks(self.knowledge, Gangs(self.knowledge))
        self._parts: dict[str, object] = {
            type(each).__name__: each
            for each in (
                self.knowledge,
                self.knowledge.pending,
                self.knowledge.enlisted,
                self.knowledge.avoidance,
                self.knowledge.freshness,
                self.knowledge.assigned,
                self.knowledge.holds,
                self.knowledge.realizing,
                self.knowledge.tenancy,
                self.knowledge.ended,
                self.knowledge.ending,
                self.knowledge.unseen,
                tenure,
                hooks,
                hooks.vetting,
                Chooser(self.knowledge),
            )
        }

    def make(self, entry: Entry | Restating) -> Any:
        """Make a call again, and return what comes of it.

        Raises:
            LogUnreadable: there is no such call here.
        """
        given = arguments(entry)
        self._said.next(entry.at if isinstance(entry, Entry) else ())
        if entry.call == PROMISES:
            self.knowledge.ledger = given["changes"].applied(self.knowledge.ledger)
            return None
        part = self._parts.get(entry.call.partition(".")[0])
        if part is None:
            raise LogUnreadable(f"call {entry.n}: nothing here is called {entry.call}")
        return method_of(entry.call)(part, **given)
