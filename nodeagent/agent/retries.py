"""Creations that failed, and when to try each again: later and later, for as long as it fails."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import msgspec

from nodeagent.actuate import Outcome
from nodeagent.settings import Settings


class Retry(msgspec.Struct, frozen=True):
    """An assignment whose creation failed so many times, and when to try again."""

    reason: str
    failures: int
    at: float


class Retries:
    """The failed creations by assignment; *clock* counts seconds."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._retries: dict[str, Retry] = {}

    @property
    def reasons(self) -> Mapping[str, str]:
        """Why each of them failed last."""
        return {id: retry.reason for id, retry in self._retries.items()}

    @property
    def due_in(self) -> float:
        """In how many seconds the next of them is to be tried, infinite if there is none."""
        now = self._clock()
        dues = (max(0.0, retry.at - now) for retry in self._retries.values())
        return min(dues, default=float("inf"))

    def postponed(self) -> frozenset[str]:
        """Return those whose time has not come."""
        now = self._clock()
        return frozenset(id for id, retry in self._retries.items() if retry.at > now)

    def note(
        self, outcome: Outcome, planned: Collection[str], *, postponed: Collection[str]
    ) -> None:
        """Remember what failed in a pass that left out the *postponed*; forget what is settled.

        A pass takes its time: whoever was left out still is to be tried, even if that is due now.
        """
        settled = outcome.live | outcome.impossible.keys()
        self._retries = {
            id: retry
            for id, retry in self._retries.items()
            if id in planned and id not in settled and (id in postponed or id in outcome.failures)
        }
        for id, reason in outcome.failures.items():
            failures = self._retries[id].failures + 1 if id in self._retries else 1
            at = self._clock() + self._settings.retry_after(failures)
            self._retries[id] = Retry(reason, failures, at)
