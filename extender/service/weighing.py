"""Whom to evict, on all nodes that a pod may go to, within what disruption budgets allow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence

import msgspec
import structlog

from extender.request import Request
from extender.service.evictable import anybody_below, evictable
from extender.service.knowledge import Knowledge
from extender.service.ports import Budget, Evictor
from extender.verbs.filter import filter
from extender.verbs.victims import Preemption, Price, cheapest_on

log = structlog.get_logger()

PASSED_AT_ONCE = 32
"""Nodes between two answers of the hooks, asked whether anybody there is of lower priority."""

FOR_SEVERAL = 32
"""Nodes looked at for a pod of several vGPUs, of which each takes up to 0.1 s (measured)."""

MOST_READ = 8
"""Times that the choice is made anew, for the budgets of those chosen forbid it."""

KNOWN_SECONDS = 30.0
"""For how long a budget is gone by as it was read."""

_NONE = frozenset[str]()


class Weighing:
    """Weighs preemptions; *spared* returns the pods that are not to be evicted, by UID."""

    def __init__(
        self, knowledge: Knowledge, evictor: Evictor, spared: Callable[[], Collection[str]]
    ) -> None:
        self._knowledge = knowledge
        self._evictor = evictor
        self._spared = spared
        self._budgets: dict[tuple[str, str], Budget] = {}
        self._known_until = 0.0
        self._ordered: tuple[frozenset[str], frozenset[str], Sequence[str]] = (_NONE, _NONE, ())

    async def cheapest(
        self, request: Request, tried: Collection[str], *, waits: bool
    ) -> Preemption | None:
        """Return the cheapest preemption that no disruption budget forbids; None if none helps.

        One without victims: to wait for what is leaving anyway is enough, if the pod *waits*. The
        nodes *tried* in vain come last.

        Raises:
            ClusterUnavailable: budgets could not be read.
        """
        knowledge = self._knowledge
        if knowledge.clock() >= self._known_until:
            self._budgets.clear()
            self._known_until = knowledge.clock() + KNOWN_SECONDS
        for _ in range(MOST_READ):
            found = await self._weighed(request, tried, waits=waits)
            if found is None or not found.victims:
                return found
            known = [knowledge.pods.get(each.uid) for each in found.victims]
            pods = [facts.ref for facts in known if facts is not None]
            if len(pods) < len(known):
                continue  # one has gone while other nodes were weighed
            for budget in await self._evictor.budgets(pods):
                key = (budget.namespace, budget.name)
                about = budget.pods.union(self._budgets[key].pods if key in self._budgets else ())
                self._budgets[key] = msgspec.structs.replace(budget, pods=about)
            if self._allows([each.uid for each in found.victims]):
                return found
        log.info("preemption_postponed", uid=request.pod.uid, error="disruption budgets forbid it")
        return None

    def _allows(self, uids: Collection[str]) -> bool:
        """Tell whether the disruption budgets, as far as they are known, let all these pods go.

        One that several are about never goes.
        """
        guards = Counter[str]()
        for budget in self._budgets.values():
            guarded = budget.pods.intersection(uids)
            if len(guarded) > budget.allows:
                return False
            guards.update(guarded)
        return all(count == 1 for count in guards.values())

    async def _weighed(
        self, request: Request, tried: Collection[str], *, waits: bool
    ) -> Preemption | None:
        best: tuple[tuple[bool, Price, int, str], Preemption] | None = None
        nodes = self._nodes(request)
        if not await self._anybody_below(request, nodes):
            return None
        for node in nodes:  # each takes some 0.3 ms (8 GPUs, 56 VMs)
            found = self.on(request, node, waits=waits)
            if found is not None:
                rank = (node in tried, found.price, found.choice.cost, node)
                if best is None or rank < best[0]:
                    best = rank, found
            await self._knowledge.way.give_way()
        return None if best is None else best[1]

    async def _anybody_below(self, request: Request, nodes: Collection[str]) -> bool:
        """Tell whether anybody on the *nodes* is of lower priority than a pod; mostly nobody is."""
        knowledge = self._knowledge
        priority = knowledge.tenancy.priority(request)
        for count, node in enumerate(nodes, 1):
            view = knowledge.views.get(node)
            if view is not None and anybody_below(knowledge, view, priority):
                return True
            if count % PASSED_AT_ONCE == 0:
                await knowledge.way.give_way()
        return False

    def _nodes(self, request: Request) -> Collection[str]:
        """Return the nodes that a pod may go to: those of its last filter, none before that.

        Of a pod of several vGPUs, the emptiest of them.
        """
        views = self._knowledge.views
        waiting = self._knowledge.pending.waiting.get(request.pod.uid)
        nodes = () if waiting is None else self._by_name(waiting.nodes)
        if len(request.wanted) > 1:
            return sorted(nodes, key=lambda node: (views[node].fullness, node))[:FOR_SEVERAL]
        return nodes

    def _by_name(self, nodes: frozenset[str]) -> Sequence[str]:
        """Return those of the *nodes* that there are, in order; most pods may go to the same."""
        there = self._knowledge.fleet.names
        before, there_before, _ = self._ordered
        if nodes is not before or there is not there_before:
            self._ordered = nodes, there, sorted(nodes & there)
        return self._ordered[2]

    def on(self, request: Request, node: str, *, waits: bool) -> Preemption | None:
        """Return the cheapest preemption on a node as it is now."""
        knowledge = self._knowledge
        view = knowledge.views.get(node)
        if view is None:
            return None
        return cheapest_on(
            view,
            knowledge.ledger,
            evictable(knowledge, view, request, self._spared()),
            lambda leaving: knowledge.bounded(request, leaving=leaving),
            allows=self._allows,
            waits=waits,
        )

    def fits_now(self, request: Request) -> bool:
        """Tell whether a pod has come to fit somewhere: then it is woken instead.

        By what filter answers, at once: what is done upon it is done while it is so.
        """
        knowledge = self._knowledge
        waiting = knowledge.pending.waiting.get(request.pod.uid)
        found = filter(
            knowledge.fleet,
            knowledge.ledger,
            knowledge.bounded(request),
            () if waiting is None else tuple(waiting.nodes & knowledge.views.keys()),
            held=knowledge.holds.nodes_of(request.owner),
        )
        return bool(found.passed)
