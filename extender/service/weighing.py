"""Whom to evict, on all nodes that a pod may go to, within what disruption budgets allow.

Whoever is chosen is asked after before anything is done, all of them: by their disruption budgets,
and by their evictions rehearsed. Where somebody may not go, others are chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import structlog

from extender.request import Request
from extender.service.disruptions import Disruptions
from extender.service.evictable import anybody_below, evictable
from extender.service.knowledge import Knowledge
from extender.service.ports import EvictionRefused, Evictor
from extender.verbs.filter import filter
from extender.verbs.victims import Preemption, Price, cheapest_on
from nodeagent.api.gpunode import PodRef

log = structlog.get_logger()

PASSED_AT_ONCE = 32
"""Nodes between two answers of the hooks, asked whether anybody there is of lower priority."""

FOR_SEVERAL = 32
"""Nodes looked at for a pod of several vGPUs, of which each takes up to 0.1 s (measured)."""

MOST_CHOSEN = 16
"""Times that the choice is made anew: twice for budgets, else for evictions that are refused."""

REFUSED_SECONDS = 30.0
"""For how long whose eviction was refused when it was rehearsed is not chosen."""

_NONE = frozenset[str]()


class Weighing:
    """Weighs preemptions; *spared* returns the pods that are not to be evicted, by UID."""

    def __init__(
        self, knowledge: Knowledge, evictor: Evictor, spared: Callable[[], Collection[str]]
    ) -> None:
        self._knowledge = knowledge
        self._evictor = evictor
        self._spared = spared
        self._disruptions = Disruptions(evictor, knowledge.clock)
        self._refused: dict[str, float] = {}
        self._ordered: tuple[frozenset[str], frozenset[str], Sequence[str]] = (_NONE, _NONE, ())

    async def cheapest(
        self, request: Request, tried: Collection[str], *, waits: bool
    ) -> Preemption | None:
        """Return the cheapest preemption that nothing forbids; None if none helps.

        No disruption budget does, and no eviction is refused when it is rehearsed. One without
        victims: to wait for what is leaving anyway is enough, if the pod *waits*. The nodes *tried*
        in vain come last.

        Raises:
            ClusterUnavailable: budgets could not be read, or an eviction not be rehearsed.
        """
        knowledge, now = self._knowledge, self._knowledge.clock()
        self._refused = {uid: until for uid, until in self._refused.items() if until > now}
        read = set[str]()
        for _ in range(MOST_CHOSEN):
            found = await self._weighed(request, tried, waits=waits)
            if found is None or not found.victims:
                return found
            known = [knowledge.pods.get(each.uid) for each in found.victims]
            pods = [facts.ref for facts in known if facts is not None]
            if len(pods) < len(known):
                continue  # one has gone while other nodes were weighed
            if await self._let_go(request, pods, read) and not await self._is_refused(pods):
                return found
        log.info("preemption_postponed", uid=request.pod.uid, error="evictions are refused")
        return None

    async def _let_go(self, request: Request, pods: Collection[PodRef], read: set[str]) -> bool:
        """Tell whether their disruption budgets let these pods go, as they are now.

        If not, those of all who might go instead are known from there on. *read* are the namespaces
        whose budgets have been read for this choice; those of these pods are added.
        """
        fresh = {pod.namespace for pod in pods} - read
        await self._disruptions.read(fresh, anew=True)
        read |= fresh
        if self._disruptions.allow([pod.uid for pod in pods]):
            return True
        await self._disruptions.read(await self._namespaces(self._nodes(request)))
        return False

    async def _is_refused(self, pods: Collection[PodRef]) -> bool:
        """Tell whether the eviction of one of these pods is refused; if so it is spared for now."""
        for pod in pods:
            try:
                await self._evictor.rehearse(pod)
            except EvictionRefused as error:
                self._refused[pod.uid] = self._knowledge.clock() + REFUSED_SECONDS
                log.info("eviction_refused", pod=pod.name, uid=pod.uid, error=str(error))
                return True
        return False

    async def _namespaces(self, nodes: Collection[str]) -> Collection[str]:
        """Return the namespaces of the pods on some nodes."""
        knowledge, found = self._knowledge, set[str]()
        for count, node in enumerate(nodes, 1):
            view = knowledge.views.get(node)
            known = map(knowledge.pods.get, () if view is None else view.pods)
            found.update(facts.ref.namespace for facts in known if facts is not None)
            if count % PASSED_AT_ONCE == 0:
                await knowledge.way.give_way()
        return found

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
            evictable(knowledge, view, request, {*self._spared(), *self._refused}),
            lambda leaving: knowledge.bounded(request, leaving=leaving),
            allows=self._disruptions.allow,
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
