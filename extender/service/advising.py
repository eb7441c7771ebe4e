"""Advice on moves, from what is known at a moment: asked for here, worked out in a thread."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from datetime import datetime

import msgspec

from extender.advice import (
    Advice,
    Advised,
    Asked,
    Setting,
    advise,
    not_borne_out,
    with_reasons,
)
from extender.advice.setting import Waiting
from extender.moving import digest
from extender.policy.bounds import Terms
from extender.request import Request
from extender.service.inquiring import Inquiry, Manners
from extender.service.knowledge import Knowledge
from extender.service.ports import Budgets, PodFacts
from extender.service.right_of_way import GivingWay

WITHIN_SECONDS = 25.0
"""For one piece of advice, with those before it; the command line waits 30 s."""

PLANNED_SECONDS = 20.0
"""Of these, for plans and what they depend on; then it is told what is known by then."""

MOST_TRIES = 16
"""Plans made anew for what has turned out of those moved: their budgets, and how they would leave.

All budgets are known after two; a third is for pods of namespaces that had none. Where evictions
are refused again, more VMs than those moved are known of after each.
"""


class Advisor:
    """Advises on what *knowledge* knows; ``utc_now`` tells how long VMs have run.

    Without *budgets* disruption budgets are not looked up, and without *manners* not how VMs would
    leave.
    """

    def __init__(
        self,
        knowledge: Knowledge,
        budgets: Budgets | None = None,
        manners: Manners | None = None,
        *,
        utc_now: Callable[[], datetime],
    ) -> None:
        self._knowledge = knowledge
        self._budgets = budgets
        self._manners = manners
        self._utc_now = utc_now
        self._one = asyncio.Lock()

    async def advise(self, asked: Asked) -> Advice:
        """Return which VMs to move so that what is asked for is attained, and why these.

        Raises:
            TimeoutError: too many ask, or it took too long.
            ClusterUnavailable: what the plan depends on could not be read.
        """
        clock = self._knowledge.seam.elsewhere  # what the other one says in a thread would be told
        async with asyncio.timeout(WITHIN_SECONDS), self._one:
            setting, found = await self._planned(asked)
            return (await asyncio.to_thread(with_reasons, setting, found, clock=clock)).advice

    async def plan(self, asked: Asked) -> Advised:
        """Return advice, with what is to be done to carry it out.

        How it would leave is looked up of each VM to be moved, and the disruption budgets of its
        namespace; if these forbid it, those of all namespaces. Who would be evicted is so in a dry
        run. Where a VM may not leave, or moves otherwise than was thought, another plan is made.

        Raises:
            TimeoutError: too many ask, or it took too long.
            ClusterUnavailable: what the plan depends on could not be read.
        """
        async with asyncio.timeout(WITHIN_SECONDS), self._one:
            return (await self._planned(asked))[1]

    async def _planned(self, asked: Asked) -> tuple[Setting, Advised]:
        """Plan until all that the plan depends on is known of those that it moves.

        Of others a budget is taken to allow their eviction, and a VM to stop when it moves: of
        these there are too many to look them all up. Where no plan is borne out in time, none is
        told, and why.

        Raises:
            TimeoutError: not even one was made.
        """
        inquiry = Inquiry(self._knowledge, self._budgets, self._manners)
        clock = self._knowledge.seam.elsewhere
        last: tuple[Setting, Advised] | None = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PLANNED_SECONDS):
                for _ in range(MOST_TRIES):
                    await self._knowledge.way.give_way()
                    setting = self._setting(asked, inquiry)
                    found = await asyncio.to_thread(advise, setting, asked, clock=clock)
                    last = setting, found
                    if await inquiry.bears_out(found):
                        return setting, _told(found)
        if last is None:
            raise TimeoutError
        return last[0], not_borne_out(last[1], inquiry.manners.values())

    def _setting(self, asked: Asked, inquiry: Inquiry) -> Setting:
        """Return all that advice rests on, as of now: nothing is awaited here."""
        knowledge = self._knowledge
        pods = dict(knowledge.pods)  # in a thread it must not change
        waiting = {named: found for named in asked.admit if (found := self._waiting(pods, *named))}
        rules = knowledge.in_force.rules
        terms = Terms(rules, None, (), dict(knowledge.tenancy.tenants)) if rules else None
        return Setting(
            GivingWay(dict(knowledge.views), knowledge.way),
            knowledge.ledger,
            pods,
            knowledge.in_force.policy.effective.value,
            knowledge.in_force.version,
            terms,
            waiting,
            dict(inquiry.guards),
            self._budgets is not None,
            dict(inquiry.manners),
            knowledge.in_force.moving.costs,
            self._utc_now(),
            dict(knowledge.constraints),
            dict(knowledge.traits),
        )

    def _waiting(self, pods: Mapping[str, PodFacts], namespace: str, name: str) -> Waiting | None:
        """Return the pod of that name, or one of that VM, that has no place."""
        knowledge = self._knowledge
        for uid, facts in pods.items():
            request = facts.asked
            if facts.over or facts.deleting or not isinstance(request, Request):
                continue
            owner = "" if request.owner is None else request.owner.name
            if request.pod.namespace != namespace or name not in (request.pod.name, owner):
                continue
            if facts.node or knowledge.assigned.nodes_of(uid):
                continue
            known = knowledge.pending.waiting.get(uid)
            return Waiting(
                knowledge.bounded(request),
                None if known is None else frozenset(known.nodes),
                filtered=known is not None,
            )
        return None


def _told(found: Advised) -> Advised:
    """Give a plan that attains the goals what it is told by when it is applied."""
    if not found.advice.attains:
        return found
    advice = msgspec.structs.replace(found.advice, digest=digest(found.errands))
    return found._replace(advice=advice)
