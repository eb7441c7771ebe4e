"""Advice on moves, from what is known at a moment: asked for here, worked out in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence

import msgspec

from extender.advice import Advice, Advised, Asked, Guard, Setting, advise
from extender.advice.setting import Waiting
from extender.moving import digest
from extender.policy.bounds import Terms
from extender.request import Request
from extender.service.knowledge import Knowledge
from extender.service.ports import Budgets, PodFacts

WITHIN_SECONDS = 25.0
"""For one piece of advice, with those before it; the command line waits 30 s."""

MOST_TRIES = 4
"""Plans made anew for what disruption budgets have turned out to allow: all are known after two.

A third, and a fourth, is for pods of namespaces that had none.
"""


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

        Disruption budgets are looked up of the namespaces of those to be moved; if they forbid it,
        of all namespaces, and another plan is made within what they allow.

        Raises:
            TimeoutError: too many ask, or it took too long.
            ClusterUnavailable: disruption budgets could not be read.
        """
        guards: dict[str, tuple[Guard, ...]] = {}
        known: set[str] = set()
        clock = self._knowledge.seam.elsewhere  # what the other one says in a thread would be told
        async with asyncio.timeout(WITHIN_SECONDS), self._one:
            for _ in range(MOST_TRIES):
                setting = self._setting(asked, guards)
                found = await asyncio.to_thread(advise, setting, asked, clock=clock)
                if self._budgets is None:
                    return _told(found)
                moved = {pod.namespace for pod in found.moved}
                if moved <= known:
                    return _told(found)
                guards |= await self._guards(self._budgets, moved - known)
                known |= moved
                if all(_lets_go(guards.get(pod.uid, ())) for pod in found.moved):
                    return _told(found)
                there = {pod.ref.namespace for pod in self._knowledge.pods.values()}
                guards |= await self._guards(self._budgets, there - known)
                known |= there
        raise TimeoutError("pods of more and more namespaces have come")

    async def _guards(
        self, budgets: Budgets, namespaces: Collection[str]
    ) -> Mapping[str, tuple[Guard, ...]]:
        """Return the budgets of all pods in these namespaces that have some, by UID."""
        found: dict[str, tuple[Guard, ...]] = {}
        for each in await budgets.budgets(namespaces) if namespaces else ():
            for uid in each.pods:
                guard = Guard(f"{each.namespace}/{each.name}", each.allows)
                found[uid] = (*found.get(uid, ()), guard)
        return found

    def _setting(self, asked: Asked, guards: Mapping[str, tuple[Guard, ...]]) -> Setting:
        """Return all that advice rests on, as of now: nothing is awaited here."""
        knowledge = self._knowledge
        pods = dict(knowledge.pods)  # in a thread it must not change
        waiting = {named: found for named in asked.admit if (found := self._waiting(pods, *named))}
        rules = knowledge.in_force.rules
        terms = Terms(rules, None, (), dict(knowledge.tenancy.tenants)) if rules else None
        return Setting(
            dict(knowledge.views),
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
