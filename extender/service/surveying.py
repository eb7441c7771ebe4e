"""The fleet as it stands with the demand so far, for who asks "what if": drawn in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from extender.overview.baseline import baseline
from extender.service.headcount import waited_for
from extender.service.knowledge import Knowledge
from extender.simulation.baseline import Baseline, Requests
from nodeagent.api import rfc3339

WITHIN_SECONDS = 20.0
"""For one, with those before it; the command line waits 30 s."""


class Surveyor:
    """Surveys what *knowledge* knows; *utc_now* dates it."""

    def __init__(self, knowledge: Knowledge, utc_now: Callable[[], datetime]) -> None:
        self._knowledge = knowledge
        self._utc_now = utc_now
        self._one = asyncio.Lock()

    async def baseline(self) -> Baseline:
        """Return the fleet, and what was asked for here: another replica does not know that.

        Raises:
            TimeoutError: too many ask.
        """
        knowledge = self._knowledge
        async with asyncio.timeout(WITHIN_SECONDS), self._one:
            return await asyncio.to_thread(
                baseline,
                tuple(knowledge.views.values()),
                requests(knowledge),
                policy=knowledge.in_force.policy.effective.value,
                at=rfc3339.seconds(self._utc_now()),
            )


def requests(knowledge: Knowledge) -> Requests:
    """Return what was asked for up to now."""
    counts = knowledge.demand.mix.as_of(knowledge.clock()).counts
    lately = {name: round(count, 3) for name, count in counts.items()}
    return Requests(lately, waited_for(knowledge), knowledge.demand.history)
