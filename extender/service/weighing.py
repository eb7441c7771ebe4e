"""Whom to evict, on all nodes that a pod may go to, within what disruption budgets allow.

Whoever is chosen is asked after before anything is done, all of them (``consent``). Where somebody
may not go, others are chosen. For a pod of several vGPUs that takes long on each node: some nodes
are looked at in one go, and others in the next, for it or for one that asks alike.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import structlog

from extender.request import Request
from extender.service.consent import Consent
from extender.service.evictable import anybody_below, evictable
from extender.service.knowledge import Knowledge
from extender.service.ports import Evictor
from extender.service.shapes import Shape, shape_of
from extender.snapshot import NodeView
from extender.verbs.filter import filter
from extender.verbs.victims import Preemption, Price, Unit, cheapest_on, may_help

log = structlog.get_logger()

PASSED_AT_ONCE = 32
"""Nodes between two answers of the hooks, asked whether anybody there is of lower priority."""

FOR_SEVERAL = 32
"""Nodes looked at in one go for a pod of several vGPUs, of which each takes up to 0.1 s (measured);
the next go looks at others."""

MOST_CHOSEN = 16
"""Times that the choice is made anew: twice for budgets, else for evictions that are refused."""

_NONE = frozenset[str]()


class Weighing:
    """Weighs preemptions; *spared* returns the pods that are not to be evicted, by UID."""

    def __init__(
        self, knowledge: Knowledge, evictor: Evictor, spared: Callable[[], Collection[str]]
    ) -> None:
        self._knowledge = knowledge
        self._spared = spared
        self._consent = Consent(knowledge, evictor)
        self._in_vain: dict[Shape, frozenset[str]] = {}
        self._ordered: tuple[frozenset[str], frozenset[str], Sequence[str]] = (_NONE, _NONE, ())

    async def cheapest(
        self, request: Request, tried: Collection[str], *, waits: bool
    ) -> Preemption | None:
        """Return the cheapest preemption that nothing forbids; None if none helps.

        No disruption budget does, and no eviction is refused when it is rehearsed. One without
        victims: to wait for what is leaving anyway is enough, if the pod *waits*. The nodes *tried*
        in vain come last. For a pod of several vGPUs a part of the nodes is looked at: see
        :meth:`has_more`.

        Raises:
            ClusterUnavailable: budgets could not be read, or an eviction not be rehearsed.
        """
        self._consent.forget()
        shape, nodes = shape_of(self._knowledge, request), self._nodes(request)
        if not await self._anybody_below(request, nodes):
            self._in_vain.pop(shape, None)
            return None
        if len(request.wanted) == 1:
            return await self._chosen(request, nodes, tried, waits=waits)
        before = self._in_vain.get(shape, _NONE)
        left = await self._promising(request, before, nodes, tried, waits=waits)
        portion = left[:FOR_SEVERAL]
        found = await self._chosen(request, portion, tried, waits=waits)
        if found is None and len(left) > len(portion):
            self._in_vain[shape] = before.union(portion)
        else:
            self._in_vain.pop(shape, None)
        return found

    def has_more(self, shape: Shape) -> bool:
        """Tell whether the next go for such pods looks at nodes that none has looked at yet."""
        return shape in self._in_vain

    def remember(self, shapes: Collection[Shape]) -> None:
        """Remember what was looked at in vain for none but these *shapes*."""
        self._in_vain = {each: nodes for each, nodes in self._in_vain.items() if each in shapes}

    async def _chosen(
        self, request: Request, nodes: Collection[str], tried: Collection[str], *, waits: bool
    ) -> Preemption | None:
        read = set[str]()
        for _ in range(MOST_CHOSEN):
            found = await self._weighed(request, nodes, tried, waits=waits)
            if found is None or not found.victims:
                return found
            known = [self._knowledge.pods.get(each.uid) for each in found.victims]
            pods = [facts.ref for facts in known if facts is not None]
            if len(pods) < len(known):
                continue  # one has gone while other nodes were weighed
            if await self._consent.given(pods, read, lambda: self._nodes(request)):
                return found
        log.info("preemption_postponed", uid=request.pod.uid, error="evictions are refused")
        return None

    async def _weighed(
        self, request: Request, nodes: Collection[str], tried: Collection[str], *, waits: bool
    ) -> Preemption | None:
        best: tuple[tuple[bool, Price, int, str], Preemption] | None = None
        for node in nodes:  # each takes some 0.3 ms (8 GPUs, 56 VMs)
            found = self.on(request, node, waits=waits)
            if found is not None:
                rank = (node in tried, found.price, found.choice.cost, node)
                if best is None or rank < best[0]:
                    best = rank, found
            await self._knowledge.way.give_way()
        return None if best is None else best[1]

    async def _promising(
        self,
        request: Request,
        before: Collection[str],
        nodes: Collection[str],
        tried: Collection[str],
        *,
        waits: bool,
    ) -> Sequence[str]:
        """Return the nodes where eviction may help, the emptiest first, but for those of *before*.

        Those were looked at in vain; they are left out until all have been.
        """
        views, left = self._knowledge.views, []
        for node in nodes:
            if node in before:
                continue
            if self._may_help(request, node, waits=waits):
                left.append((node in tried, views[node].fullness, node))
            await self._knowledge.way.give_way()
        return [node for _, _, node in sorted(left)]

    def _may_help(self, request: Request, node: str, *, waits: bool) -> bool:
        knowledge = self._knowledge
        view = knowledge.views.get(node)
        if view is None:
            return False
        units = self._evictable(request, view)
        return may_help(view, knowledge.ledger, units, knowledge.bounded(request), waits=waits)

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
        """Return the nodes that a pod may go to: those of its last filter, none before that."""
        waiting = self._knowledge.pending.waiting.get(request.pod.uid)
        return () if waiting is None else self._by_name(waiting.nodes)

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
            self._evictable(request, view),
            lambda leaving: knowledge.bounded(request, leaving=leaving),
            allows=self._consent.allows,
            waits=waits,
        )

    def _evictable(self, request: Request, view: NodeView) -> Mapping[str, Unit]:
        spared = {*self._spared(), *self._consent.refused}
        return evictable(self._knowledge, view, request, spared)

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
