"""Trying again: for how long, and how soon.

A pause is drawn from the whole range up to a bound that doubles ("full jitter"), so that those who
failed together do not come back together; what the API server asks for in Retry-After is waited
besides. No try begins once the caller's time is up, none for a process that goes away or does not
lead any more, and none where another would fare no better. A write whose outcome is unknown is not
a matter of patience alone: whoever made it reads before it decides.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from extender.service.knowledge import Knowledge
from extender.service.ports import ClusterUnavailable, PlanConflict

log = structlog.get_logger()

_T = TypeVar("_T")
MOST_DOUBLINGS = 16


class Patience:
    """For one piece of work that must be done by *until*, on the service's clock.

    Without *until* it is background work, which is put off after a while.
    """

    def __init__(
        self,
        knowledge: Knowledge,
        *,
        until: float | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._knowledge = knowledge
        self._chance = chance
        if until is None:
            until = knowledge.clock() + knowledge.settings.retry_seconds
        self.until = until

    async def again(self, read: Callable[[], Awaitable[_T]]) -> _T:
        """Return what a *read* answers, made again while it fails and there is time.

        Raises:
            ClusterUnavailable: as it did the last time.
        """
        failures = 0
        while True:
            try:
                return await read()
            except ClusterUnavailable as error:
                failures += 1
                await self.pause(error, failures)

    async def pause(self, error: ClusterUnavailable | PlanConflict, failures: int) -> None:
        """Wait before the next try after so many failures.

        Raises:
            ClusterUnavailable: there is none; from *error*, if it is not that.
        """
        settings = self._knowledge.settings
        doubled = settings.first_retry_seconds * 2.0 ** min(failures - 1, MOST_DOUBLINGS)
        seconds = self._chance() * min(settings.longest_retry_seconds, doubled)
        if isinstance(error, ClusterUnavailable):
            seconds += error.retry_after
        if not self._worth_while(error, seconds):
            if isinstance(error, ClusterUnavailable):
                raise error
            raise ClusterUnavailable(f"the plan keeps changing: {error}") from error
        log.debug("trying_again", error=str(error), failures=failures, seconds=round(seconds, 3))
        await asyncio.sleep(seconds)

    def _worth_while(self, error: ClusterUnavailable | PlanConflict, seconds: float) -> bool:
        knowledge = self._knowledge
        passing = not isinstance(error, ClusterUnavailable) or error.passing
        ends = knowledge.stopping or knowledge.tenure.why_not()
        return passing and not ends and knowledge.clock() + seconds < self.until
