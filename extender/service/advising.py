"""Advice on moves, from what is known at a moment: asked for here, worked out in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from extender.advice import Advice, Advised, Asked, Guard, Manner, Setting, advise
from extender.advice.setting import Waiting
from extender.moving import digest
from extender.policy.bounds import Terms
from extender.request import Request
from extender.service.knowledge import Knowledge
from extender.service.ports import Budgets, PodFacts
from nodeagent.api.gpunode import OwnerRef, PodRef

WITHIN_SECONDS = 25.0
"""For one piece of advice, with those before it; the command line waits 30 s."""

MOST_TRIES = 16
"""Plans made anew for what has turned out about how those moved may leave."""


class Manners(Protocol):
    """Who knows how a VM would leave."""

    async def manner(self, owner: OwnerRef, pod: PodRef) -> Manner:
        """Return how the VM of an owner would leave that runs in a pod.

        Raises:
            ClusterUnavailable: that could not be found out.
        """


class Advisor:
    """Advises on what *knowledge* knows; without *budgets* disruption budgets are not looked up.

    Nor is it how VMs would leave, without *manners*.
    """

    def __init__(
        self,
        knowledge: Knowledge,
        budgets: Budgets | None = None,
        manners: Manners | None = None,
    ) -> None:
        self._knowledge = knowledge
        self._budgets = budgets
        self._manners = manners
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

        How it would leave is looked up of each VM to be moved, and which disruption budgets are
        about it; where it may not, or moves otherwise than was thought, another plan is made.

        Raises:
            TimeoutError: too many ask, or it took too long.
            ClusterUnavailable: disruption budgets could not be read.
        """
        guards: dict[str, tuple[Guard, ...]] = {}
        manners: dict[str, Manner] = {}
        clock = self._knowledge.seam.elsewhere  # what the other one says in a thread would be told
        async with asyncio.timeout(WITHIN_SECONDS), self._one:
            for _ in range(MOST_TRIES):
                setting = self._setting(asked, guards, manners)
                found = await asyncio.to_thread(advise, setting, asked, clock=clock)
                if self._budgets is None:
                    return _told(found)
                fresh = [pod for pod in found.moved if pod.uid not in guards]
                if not fresh:
                    return _told(found)
                learned = await self._manners_of(found, fresh)
                manners |= learned
                guards |= await self._guards(self._budgets, fresh)
                if all(_as_thought(learned[pod.uid], guards[pod.uid]) for pod in fresh):
                    return _told(found)
        raise TimeoutError("one VM after the other may not leave as was planned")

    async def _manners_of(self, found: Advised, pods: Sequence[PodRef]) -> Mapping[str, Manner]:
        """Return how each of these pods, which a plan moves, would leave."""
        owners = {
            each.entry.pod.uid: each.entry.owner
            for each in found.errands.moves
            if each.entry.pod is not None and each.entry.owner is not None
        }
        return {
            pod.uid: Manner()
            if self._manners is None
            else await self._manners.manner(owners[pod.uid], pod)
            for pod in pods
        }

    async def _guards(
        self, budgets: Budgets, pods: Sequence[PodRef]
    ) -> Mapping[str, tuple[Guard, ...]]:
        found: dict[str, tuple[Guard, ...]] = {pod.uid: () for pod in pods}
        for each in await budgets.budgets(pods):
            for uid in each.pods & found.keys():
                found[uid] = (*found[uid], Guard(f"{each.namespace}/{each.name}", each.allows))
        return found

    def _setting(
        self,
        asked: Asked,
        guards: Mapping[str, tuple[Guard, ...]],
        manners: Mapping[str, Manner],
    ) -> Setting:
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
            dict(manners),
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


def _as_thought(manner: Manner, guards: Sequence[Guard]) -> bool:
    """Tell whether a pod may leave as plans take it for granted of those not looked up."""
    if manner.why or manner.live:
        return False
    return not manner.guarded or (len(guards) <= 1 and all(guard.allows > 0 for guard in guards))
