"""What a plan of moves depends on, looked up: of those that it moves, and of some others.

There are too many VMs to look them all up. So one plan after the other says whom to look at, and
what is found out is what the next one is made of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from itertools import islice
from typing import Protocol

from extender.advice import Advised, Guard, Manner, lets_go
from extender.moves import How
from extender.moving.order import MOST_LEGS
from extender.service.knowledge import Knowledge
from extender.service.ports import Budgets, ClusterUnavailable
from nodeagent.api.gpunode import Assignment, OwnerRef, PodRef

MOST_LOOKED_AT = 32
"""At a time, of those whom budgets keep where they are: each takes up to three requests.

And of those who might go instead of one whose eviction is refused, each of which takes up to four:
at first, and twice as many at each further time.
"""

AT_ONCE = 8
"""So many VMs are looked up at a time, by a request each. An API server has some 600 in hand."""


class Manners(Protocol):
    """Who knows how a VM would leave."""

    async def manner(self, owner: OwnerRef, pod: PodRef) -> Manner:
        """Return how the VM of an owner would leave that runs in a pod.

        Raises:
            ClusterUnavailable: that could not be found out.
        """

    async def rehearse(self, owner: OwnerRef, pod: PodRef) -> Manner | None:
        """Return how that VM would leave as its eviction is refused, None where it is not.

        Raises:
            ClusterUnavailable: that could not be found out.
        """


class Inquiry:
    """What has been looked up for one piece of advice, by pods' UIDs.

    ``guards`` are their disruption budgets, ``manners`` how they would leave. Without *budgets*
    these are not looked up, without *manners* not how VMs would leave.
    """

    def __init__(
        self, knowledge: Knowledge, budgets: Budgets | None, manners: Manners | None
    ) -> None:
        self._knowledge = knowledge
        self._budgets = budgets
        self._manners = manners
        self._namespaces: set[str] = set()
        self._rehearsed: set[str] = set()
        self._refused = False
        self._portion = MOST_LOOKED_AT
        self.guards: dict[str, tuple[Guard, ...]] = {}
        self.manners: dict[str, Manner] = {}

    async def bears_out(self, found: Advised) -> bool:
        """Look up what a plan depends on; tell whether it was taken to be so.

        If not, the next plan may be another. One that attains its goals has its evictions rehearsed
        besides, as many as an order may have.

        Raises:
            ClusterUnavailable: that could not be found out.
        """
        if not await self._is_as_taken(found.moved):
            return False
        if found.advice.attains and await self._is_refused(found):
            return False
        all_go = found.advice.attains and not found.advice.some_stay
        return all_go or not await self._some_run_on()

    async def _is_as_taken(self, moved: Sequence[Assignment]) -> bool:
        allowed = self._budgets is None or await self._are_let_go(self._budgets, moved)
        learned = await self._manners_of(moved)
        return allowed and not any(each.live or each.denied or each.why for each in learned)

    async def _are_let_go(self, budgets: Budgets, moved: Sequence[Assignment]) -> bool:
        """Tell whether budgets that the plan did not know let its moves be; if not, read all."""
        pods = [each.pod for each in moved if each.pod is not None]
        fresh = {pod.namespace for pod in pods} - self._namespaces
        news = [pod.uid for pod in pods if pod.namespace in fresh]
        await self._learn(budgets, fresh)
        if all(lets_go(self.guards.get(uid, ())) for uid in news):
            return True
        there = {pod.ref.namespace for pod in self._knowledge.pods.values()}
        await self._learn(budgets, there - self._namespaces)
        return False

    async def _some_run_on(self) -> bool:
        """Look up how some would leave whom budgets keep; tell whether any runs on meanwhile.

        KubeVirt has a budget of its own, which allows nothing, of each VM that it would migrate.
        """
        views, assigned = self._knowledge.views, self._knowledge.assigned
        kept = (
            uid
            for uid, guards in self.guards.items()
            if uid in assigned and uid not in self.manners and not lets_go(guards)
        )
        entries = [
            each
            for uid in islice(kept, MOST_LOOKED_AT)
            for each in views[assigned[uid]].in_force
            if each.pod is not None and each.pod.uid == uid
        ]
        learned = await self._manners_of(entries)
        return any(each.live for each in learned)

    async def _is_refused(self, found: Advised) -> bool:
        """Rehearse the evictions of a plan; tell whether one is refused.

        If so again, those of some who might go instead are rehearsed, too: where all are refused by
        one rule, as by the cluster's ``evictionStrategy``, plan after plan would find out only few.
        """
        if self._manners is None:
            return False
        moves = found.errands.moves[:MOST_LEGS]
        evicted = [each.entry for each in moves if each.move.how is How.EVICTION]
        if not await self._are_refused(self._manners, evicted):
            return False
        if self._refused:
            instead = await asyncio.to_thread(self._instead, found, self._portion)  # of all VMs
            self._portion *= 2
            await self._manners_of(instead)
            await self._are_refused(self._manners, instead)
        self._refused = True
        return True

    async def _are_refused(self, manners: Manners, entries: Iterable[Assignment]) -> bool:
        """Rehearse the evictions of those that would leave by one; tell whether any is refused."""
        refused = set[str]()

        async def look(owner: OwnerRef, pod: PodRef) -> None:
            found = await manners.rehearse(owner, pod)
            if found is not None:
                self.manners[pod.uid] = found
                refused.add(pod.uid)

        fresh = {}
        for each in entries:
            if each.owner is None or each.pod is None or each.pod.uid in self._rehearsed:
                continue
            known = self.manners[each.pod.uid]
            if not (known.live or known.denied or known.why):
                fresh[each.pod.uid] = each.owner, each.pod
        self._rehearsed |= fresh.keys()
        await self._of_each(fresh.values(), look)
        return bool(refused)

    def _instead(self, found: Advised, most: int) -> Sequence[Assignment]:
        """Return the cheapest of those that are taken to leave by an eviction, as far as known."""
        if found.there is None:
            return ()
        whose = found.there.whose
        cheapest = sorted(
            (each.movable.cost, each.id)
            for host in found.there.problem.hosts
            for each in host.occupants
            if each.movable is not None and each.movable.how is How.EVICTION
        )
        entries = (whose[id].entry for _, id in cheapest)
        news = (
            each for each in entries if each and each.pod and each.pod.uid not in self._rehearsed
        )
        return tuple(islice(news, most))

    async def _manners_of(self, entries: Iterable[Assignment]) -> Sequence[Manner]:
        """Look up how VMs would leave of whom that is not known; return it of these."""
        manners, learned = self._manners, list[Manner]()
        if manners is None:
            return ()

        async def look(owner: OwnerRef, pod: PodRef) -> None:
            self.manners[pod.uid] = await manners.manner(owner, pod)
            learned.append(self.manners[pod.uid])

        fresh = {
            each.pod.uid: (each.owner, each.pod)
            for each in entries
            if each.owner and each.pod and each.pod.uid not in self.manners
        }
        await self._of_each(fresh.values(), look)
        return learned

    async def _of_each(
        self,
        whom: Iterable[tuple[OwnerRef, PodRef]],
        look: Callable[[OwnerRef, PodRef], Awaitable[None]],
    ) -> None:
        """Look something up of each of these, of some at once; the hooks go first.

        Raises:
            ClusterUnavailable: of one that could not be found out, and of others neither.
        """
        left, failed = iter(whom), list[ClusterUnavailable]()

        async def one_after_the_other() -> None:
            for owner, pod in left:
                await self._knowledge.way.give_way()
                if failed:
                    return
                try:
                    await look(owner, pod)
                except ClusterUnavailable as error:
                    failed.append(error)

        async with asyncio.TaskGroup() as tasks:
            for number in range(AT_ONCE):
                tasks.create_task(one_after_the_other(), name=f"look-up-{number}")
        if failed:
            raise failed[0]

    async def _learn(self, budgets: Budgets, namespaces: Collection[str]) -> None:
        """Learn the budgets of all pods in these namespaces that have some."""
        for each in await budgets.budgets(namespaces) if namespaces else ():
            for uid in each.pods:
                guard = Guard(f"{each.namespace}/{each.name}", each.allows)
                self.guards[uid] = (*self.guards.get(uid, ()), guard)
        self._namespaces.update(namespaces)
