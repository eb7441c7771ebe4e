"""How many GPU instances are wanted, counted now and then: those of pods, and who waits for one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import datetime

from extender.occupants import charges
from extender.service.knowledge import Knowledge
from extender.simulation.history import DAY
from extender.snapshot import NodeView

COUNT_SECONDS = 600.0
"""Between two counts; the last of a day stands for it."""

AT_ONCE = 50
"""Nodes counted between two answers of a hook: half a millisecond if none was counted before."""


class Headcount:
    """Notes in the demand's history, day by day, how many instances are wanted of each profile."""

    def __init__(self, knowledge: Knowledge, utc_now: Callable[[], datetime]) -> None:
        self._knowledge = knowledge
        self._utc_now = utc_now

    async def run(self) -> None:
        """Count again and again until cancelled; as the leader alone, who knows who waits."""
        while True:
            await asyncio.sleep(COUNT_SECONDS)
            if not self._knowledge.not_ready():
                await self.count()

    async def count(self) -> None:
        """Count, and note it for today (UTC), unless the lead was lost meanwhile."""
        knowledge, found = self._knowledge, Counter[str]()
        for at, view in enumerate(tuple(knowledge.views.values())):
            if at % AT_ONCE == 0:
                await knowledge.way.give_way()
            found.update(_held(view))
        found.update(waited_for(knowledge))
        if not knowledge.not_ready():
            today = int(self._utc_now().timestamp()) // DAY
            knowledge.demand.history = knowledge.demand.history.noted(today, found)


def wanted(knowledge: Knowledge) -> Counter[str]:
    """Return how many instances of each profile pods have, or wait for, at this moment."""
    found = waited_for(knowledge)
    for view in knowledge.views.values():
        found.update(_held(view))
    return found


def waited_for(knowledge: Knowledge) -> Counter[str]:
    """Return how many instances of each profile pods wait for; what no node offers has none."""
    views, now = knowledge.views.values(), knowledge.clock()
    found = Counter(
        knowledge.demand.profile(resource, views, now=now)
        for each in tuple(knowledge.pending.waiting.values())
        for resource in each.request.wanted
    )
    del found[""]
    return found


def _held(view: NodeView) -> Counter[str]:
    found = Counter[str]()
    for (_, name), (count, _) in charges(view).items():
        found[name] += count
    del found[""]  # of what is planned on a GPU that is gone
    return found
