"""Advice on moves, from what is known at a moment: asked for here, worked out in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

import msgspec

from extender.advice import Advice, Advised, Asked, Guard, Setting, advise, with_reasons
from extender.advice.setting import Waiting
from extender.moving import digest
from extender.policy.bounds import Terms
from extender.request import Request
from extender.service.knowledge import Knowledge
from extender.service.ports import Budgets, PodFacts
from extender.service.relocation import Relocator
from extender.service.right_of_way import GivingWay
from nodeagent.api.gpunode import Assignment

WITHIN_SECONDS = 25.0
"""For one piece of advice, with those before it; the command line waits 30 s."""

MOST_TRIES = 8
"""Plans made anew for what has turned out of those moved: their budgets, and how they move.

All budgets are known after two; a third is for pods of namespaces that had none.
"""


class Looked(msgspec.Struct):
    """What was looked up of pods, by UID: their disruption budgets, and whose VMs migrate.

    ``namespaces`` are those whose budgets are known, ``asked`` the pods of whom it is known whether
    they migrate.
    """

    guards: dict[str, tuple[Guard, ...]] = {}
    namespaces: set[str] = set()
    migratable: frozenset[str] = frozenset()
    asked: set[str] = set()


class Advisor:
    """Advises on what *knowledge* knows; ``utc_now`` tells how long VMs have run.

    Without *budgets* disruption budgets are not looked up, and without a *relocator* not which VMs
    can migrate while they run.
    """

    def __init__(
        self,
        knowledge: Knowledge,
        budgets: Budgets | None = None,
        relocator: Relocator | None = None,
        *,
        utc_now: Callable[[], datetime],
    ) -> None:
        self._knowledge = knowledge
        self._budgets = budgets
        self._relocator = relocator
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

        Disruption budgets are looked up of the namespaces of those to be moved; if they forbid it,
        of all namespaces, and another plan is made within what they allow.

        Raises:
            TimeoutError: too many ask, or it took too long.
            ClusterUnavailable: what the plan depends on could not be read.
        """
        async with asyncio.timeout(WITHIN_SECONDS), self._one:
            return (await self._planned(asked))[1]

    async def _planned(self, asked: Asked) -> tuple[Setting, Advised]:
        """Plan until all that the plan depends on is known of those that it moves.

        Of others a budget is taken to allow their eviction, and a VM to stop when it moves: of
        these there are too many to look them all up.
        """
        known, clock = Looked(), self._knowledge.seam.elsewhere
        for _ in range(MOST_TRIES):
            await self._knowledge.way.give_way()
            setting = self._setting(asked, known)
            found = await asyncio.to_thread(advise, setting, asked, clock=clock)
            if await self._is_as_taken(found.moved, known):
                return setting, _told(found)
        raise TimeoutError("what moves turned out otherwise in one plan after the other")

    async def _is_as_taken(self, moved: Sequence[Assignment], known: Looked) -> bool:
        """Look up what a plan depends on; tell whether it was taken to be so."""
        allowed = self._budgets is None or await self._are_let_go(self._budgets, moved, known)
        fresh = [each for each in moved if _uid(each) not in known.asked]
        known.asked.update(map(_uid, fresh))
        migratable = frozenset([_uid(each) for each in fresh if await self._migrates(each)])
        known.migratable |= migratable
        return allowed and not migratable

    async def _are_let_go(
        self, budgets: Budgets, moved: Sequence[Assignment], known: Looked
    ) -> bool:
        """Tell whether budgets that the plan did not know let its moves be; if not, read all."""
        pods = [each.pod for each in moved if each.pod is not None]
        fresh = {pod.namespace for pod in pods} - known.namespaces
        news = [pod.uid for pod in pods if pod.namespace in fresh]
        await self._learn(budgets, fresh, known)
        if all(_lets_go(known.guards.get(uid, ())) for uid in news):
            return True
        there = {pod.ref.namespace for pod in self._knowledge.pods.values()}
        await self._learn(budgets, there - known.namespaces, known)
        return False

    async def _migrates(self, entry: Assignment) -> bool:
        owner, relocator = entry.owner, self._relocator
        return owner is not None and relocator is not None and await relocator.migratable(owner)

    async def _learn(self, budgets: Budgets, namespaces: Collection[str], known: Looked) -> None:
        """Learn the budgets of all pods in these namespaces that have some."""
        for each in await budgets.budgets(namespaces) if namespaces else ():
            for uid in each.pods:
                guard = Guard(f"{each.namespace}/{each.name}", each.allows)
                known.guards[uid] = (*known.guards.get(uid, ()), guard)
        known.namespaces.update(namespaces)

    def _setting(self, asked: Asked, known: Looked) -> Setting:
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
            known.guards,
            self._budgets is not None,
            known.migratable,
            knowledge.in_force.moving.costs,
            self._utc_now(),
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


def _uid(entry: Assignment) -> str:
    return "" if entry.pod is None else entry.pod.uid


def _lets_go(guards: Sequence[Guard]) -> bool:
    return len(guards) <= 1 and all(guard.allows > 0 for guard in guards)
