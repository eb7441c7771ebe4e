"""Advice on moves, from what is known at a moment: asked for here, worked out in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from extender.advice import Advice, Advised, Asked, Guard, Setting, advise
from extender.advice.setting import Waiting
from extender.moving import digest
from extender.policy.bounds import Terms
from extender.request import Request
from extender.service.knowledge import Knowledge
from extender.service.ports import Budgets, PodFacts
from extender.service.right_of_way import GivingWay
from nodeagent.api.gpunode import PodRef

WITHIN_SECONDS = 25.0
"""For one piece of advice, with those before it; the command line waits 30 s."""

MOST_TRIES = 4
"""Plans made anew for what the disruption budgets of those moved have turned out to allow."""


class Advisor:
    """Advises on what *knowledge* knows; without *budgets* disruption budgets are not looked up."""

    def __init__(self, knowledge: Knowledge, budgets: Budgets | None = None) -> None:
        self._knowledge = knowledge
        self._budgets = budgets
        self._one = asyncio.Lock()

    async def advise(self, asked: Asked) -> Advice:
        """Return which VMs to move so that what is asked for is attained.

        Raises:
            TimeoutError: too many ask, or it took too long.
            ClusterUnavailable: disruption budgets could not be read.
        """
        return (await self.plan(asked)).advice

    async def plan(self, asked: Asked) -> Advised:
        """Return advice, with what is to be done to carry it out.

        Of disruption budgets those are looked up that are about a VM to be moved; where one allows
        nothing, another plan is made without that VM.

        Raises:
            TimeoutError: too many ask, or it took too long.
            ClusterUnavailable: disruption budgets could not be read.
        """
        guards: dict[str, tuple[Guard, ...]] = {}
        clock = self._knowledge.seam.elsewhere  # what the other one says in a thread would be told
        async with asyncio.timeout(WITHIN_SECONDS), self._one:
            for _ in range(MOST_TRIES):
                await self._knowledge.way.give_way()
                setting = self._setting(asked, guards)
                found = await asyncio.to_thread(advise, setting, asked, clock=clock)
                if self._budgets is None:
                    return _told(found)
                fresh = [pod for pod in found.moved if pod.uid not in guards]
                if not fresh:
                    return _told(found)
                guards |= await self._guards(self._budgets, fresh)
                if all(_lets_go(guards[pod.uid]) for pod in fresh):
                    return _told(found)
        raise TimeoutError("disruption budgets forbid one plan after the other")

    async def _guards(
        self, budgets: Budgets, pods: Sequence[PodRef]
    ) -> Mapping[str, tuple[Guard, ...]]:
        found: dict[str, tuple[Guard, ...]] = {pod.uid: () for pod in pods}
        for each in await budgets.budgets(pods):
            for uid in each.pods & found.keys():
                found[uid] = (*found[uid], Guard(f"{each.namespace}/{each.name}", each.allows))
        return found

    def _setting(self, asked: Asked, guards: Mapping[str, tuple[Guard, ...]]) -> Setting:
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
            dict(guards),
            self._budgets is not None,
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
                knowledge.bounded(request), None if known is None else frozenset(known.nodes)
            )
        return None


def _told(found: Advised) -> Advised:
    """Give a plan that attains the goals what it is told by when it is applied."""
    if not found.advice.attains:
        return found
    advice = msgspec.structs.replace(found.advice, digest=digest(found.errands))
    return found._replace(advice=advice)


def _lets_go(guards: Sequence[Guard]) -> bool:
    return len(guards) <= 1 and all(guard.allows > 0 for guard in guards)
