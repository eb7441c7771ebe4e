"""A log played again: every decision made anew from what it rested on, and compared.

Plans that were solved are taken from the log, as all else that came of waiting for others: what was
written to plans, read of pods, and heard of the cluster. What is made anew are the decisions of
filter, prioritize and preempt, and the places that bind takes. What follows a gap may differ for
what is missing there: it is counted, and nothing is claimed of it, until the state is told anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import structlog

from extender.decision_log.decoding import arguments
from extender.decision_log.layout import (
    DECISIONS,
    End,
    Entry,
    Header,
    LogUnreadable,
)
from extender.decision_log.outcomes import outcome
from extender.decision_log.reading import Damage, Item, Run
from extender.decision_log.resumption import Progress
from extender.decision_log.stage import Stage
from extender.request import Request

log = structlog.get_logger()

SHOWN = 10
"""Differences that are told one by one."""


class Difference(msgspec.Struct, frozen=True):
    """A decision that came out otherwise: call ``n`` of a run, about a pod."""

    run: str
    n: int
    call: str
    uid: str
    recorded: dict[str, Any]
    reproduced: dict[str, Any]


class Reproduction(msgspec.Struct, frozen=True, rename="camel"):
    """What came of playing a log again.

    Of all ``decisions`` so many are ``identical`` and so many ``differing``, of which the first
    few are told; ``unclaimed`` follow a gap. ``gaps`` are how often calls are ``missing``;
    ``resumed`` are runs whose first files are gone, played from what a later one begins with;
    ``unfinished`` are runs that were not closed: their process was killed, or still writes.
    """

    runs: int = 0
    calls: int = 0
    decisions: int = 0
    identical: int = 0
    differing: int = 0
    unclaimed: int = 0
    gaps: int = 0
    missing: int = 0
    resumed: int = 0
    unfinished: int = 0
    damaged_at: tuple[Damage, ...] = ()
    different: tuple[Difference, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether all that was decided came out the same, and nothing is missing.

        At the end of a run that is unfinished something may be.
        """
        whole = not (self.gaps or self.damaged_at or self.unfinished)
        return whole and self.identical == self.decisions


class _Played:
    """What has come of the runs played so far."""

    def __init__(self) -> None:
        self.found = Reproduction()

    def play(self, header: Header, items: Iterable[Item]) -> None:
        """Play a run."""
        progress, ended = Progress(header), False
        self._add(runs=1)
        for item in items:
            step, ended = progress.take(item), isinstance(item, End)
            self._add(gaps=int(step.gap), missing=step.missing, resumed=int(step.resumed))
            match item:
                case Entry():
                    self._add(calls=1)
                    self._compare(header.run, progress.stage, item, whole=progress.whole)
                case Damage():
                    known = self.found.damaged_at
                    self.found = msgspec.structs.replace(self.found, damaged_at=(*known, item))
        if not ended:
            self._add(unfinished=1)

    def _compare(self, run: str, stage: Stage, entry: Entry, *, whole: bool) -> None:
        decides = entry.call in DECISIONS
        try:
            made = stage.make(entry)
        except LogUnreadable:
            raise
        except Exception:  # what failed then fails again, and what did not is a difference
            log.exception("call_failed", run=run, n=entry.n, call=entry.call)
            made = None
        if not decides:
            return
        again, then = outcome(entry.call, made), entry.gave or {}
        self._add(decisions=1)
        if not whole:
            self._add(unclaimed=1)
        elif again == then:
            self._add(identical=1)
        else:
            self._add(differing=1)
            if len(self.found.different) < SHOWN:
                uid = _uid(entry)
                different = Difference(run, entry.n, entry.call, uid, then, again)
                told = (*self.found.different, different)
                self.found = msgspec.structs.replace(self.found, different=told)

    def _add(self, **counts: int) -> None:
        added = {name: getattr(self.found, name) + count for name, count in counts.items()}
        self.found = msgspec.structs.replace(self.found, **added)


def reproduced(runs: Iterable[Run]) -> Reproduction:
    """Return what comes of playing runs again, each on a state of its own.

    Raises:
        LogUnreadable: a call is none that this program knows, or a header makes no sense.
    """
    played = _Played()
    for run in runs:
        played.play(run.header, run.items())
    return played.found


def replayed(header: Header, items: Iterable[Item]) -> Reproduction:
    """Return what comes of playing one run again, wherever its calls come from."""
    played = _Played()
    played.play(header, items)
    return played.found


def _uid(entry: Entry) -> str:
    """Return the UID of the pod that a decision is about."""
    about = (each for each in arguments(entry).values() if isinstance(each, Request))
    return next((request.pod.uid for request in about), "")
