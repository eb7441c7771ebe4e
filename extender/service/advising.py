"""Advice on moves, from what is known at a moment: asked for here, worked out in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Protocol

import msgspec

from extender.advice import (
    Advice,
    Advised,
    Asked,
    Guard,
    Manner,
    Setting,
    advise,
    lets_go,
    with_reasons,
)
from extender.advice.setting import Waiting
from extender.moving import digest
from extender.policy.bounds import Terms
from extender.request import Request
from extender.service.knowledge import Knowledge
from extender.service.ports import Budgets, PodFacts
from extender.service.right_of_way import GivingWay
from nodeagent.api.gpunode import Assignment, OwnerRef, PodRef

WITHIN_SECONDS = 25.0
"""For one piece of advice, with those before it; the command line waits 30 s."""

MOST_TRIES = 16
"""Plans made anew for what has turned out of those moved: their budgets, and how they would leave.

All budgets are known after two; a third is for pods of namespaces that had none.
"""

MOST_LOOKED_AT = 32
"""At a time, of those whom budgets keep where they are: each takes up to three requests."""


class Manners(Protocol):
    """Who knows how a VM would leave."""

    async def manner(self, owner: OwnerRef, pod: PodRef) -> Manner:
        """Return how the VM of an owner would leave that runs in a pod.

        Raises:
            ClusterUnavailable: that could not be found out.
        """


class Looked(msgspec.Struct):
    """What was looked up of pods, by UID: their disruption budgets, and how they would leave.

    ``namespaces`` are those whose budgets are known.
    """

    guards: dict[str, tuple[Guard, ...]] = {}
    namespaces: set[str] = set()
    manners: dict[str, Manner] = {}


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
        namespace; if these forbid it, those of all namespaces. Where a VM may not leave, or moves
        otherwise than was thought, another plan is made.

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
            if not await self._is_as_taken(found.moved, known):
                continue
            if found.advice.attains or not await self._some_run_on(known):
                return setting, _told(found)
        raise TimeoutError("one VM after the other leaves otherwise than was planned")

    async def _is_as_taken(self, moved: Sequence[Assignment], known: Looked) -> bool:
        """Look up what a plan depends on; tell whether it was taken to be so."""
        allowed = self._budgets is None or await self._are_let_go(self._budgets, moved, known)
        learned = await self._manners_of(moved, known)
        return allowed and not any(each.live or each.denied or each.why for each in learned)

    async def _are_let_go(
        self, budgets: Budgets, moved: Sequence[Assignment], known: Looked
    ) -> bool:
        """Tell whether budgets that the plan did not know let its moves be; if not, read all."""
        pods = [each.pod for each in moved if each.pod is not None]
        fresh = {pod.namespace for pod in pods} - known.namespaces
        news = [pod.uid for pod in pods if pod.namespace in fresh]
        await self._learn(budgets, fresh, known)
        if all(lets_go(known.guards.get(uid, ())) for uid in news):
            return True
        there = {pod.ref.namespace for pod in self._knowledge.pods.values()}
        await self._learn(budgets, there - known.namespaces, known)
        return False

    async def _some_run_on(self, known: Looked) -> bool:
        """Look up how some would leave whom budgets keep; tell whether any runs on meanwhile.

        KubeVirt has a budget of its own, which allows nothing, of each VM that it would migrate.
        """
        views, assigned = self._knowledge.views, self._knowledge.assigned
        kept = (
            uid
            for uid, guards in known.guards.items()
            if uid in assigned and uid not in known.manners and not lets_go(guards)
        )
        entries = [
            each
            for uid in islice(kept, MOST_LOOKED_AT)
            for each in views[assigned[uid]].in_force
            if each.pod is not None and each.pod.uid == uid
        ]
        learned = await self._manners_of(entries, known)
        return any(each.live for each in learned)

    async def _manners_of(self, entries: Iterable[Assignment], known: Looked) -> Sequence[Manner]:
        """Look up how VMs would leave of whom that is not known; return it of these."""
        if self._manners is None:
            return ()
        fresh = {
            each.pod.uid: (each.owner, each.pod)
            for each in entries
            if each.owner and each.pod and each.pod.uid not in known.manners
        }
        learned = {uid: await self._manners.manner(*whose) for uid, whose in fresh.items()}
        known.manners |= learned
        return tuple(learned.values())

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
            known.manners,
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
