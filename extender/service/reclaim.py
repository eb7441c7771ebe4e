"""Taking back what nobody uses: places of pods that are gone, and nodes that are no more.

A place is only ever given back after its pod was read from the API server: a watch may be late,
and a pod that merely lost its label still runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

import structlog

from extender.claims import claimed
from extender.request import Request
from extender.service.knowledge import Knowledge
from extender.service.patience import Patience
from extender.service.plans import Plans, held_too_long
from extender.service.ports import Cluster, ClusterUnavailable, PodFacts
from extender.service.restoring import Restorer
from extender.service.trust import Trust
from extender.service.turns import in_turns
from extender.service.unbound import read_past_bindings
from extender.service.underway import Underway
from extender.snapshot import NodeView
from nodeagent.api.gpunode import PodRef

log = structlog.get_logger()

READS_AT_ONCE = 32  # after a restart thousands of pods may have to be read
IN_VAIN = 3  # nodes in a row for which no answer came; one alone may have trouble of its own


class Reclaimer:
    """Finds what to take back and takes it back, but for pods whose binds are *underway*."""

    def __init__(
        self,
        knowledge: Knowledge,
        plans: Plans,
        cluster: Cluster,
        underway: Underway,
        restorer: Restorer,
    ) -> None:
        self._knowledge = knowledge
        self._plans = plans
        self._cluster = cluster
        self._underway = underway
        self._restorer = restorer
        self._trust = Trust(knowledge)
        self._read_at: dict[str, float] = {}
        self._at_once = asyncio.Semaphore(READS_AT_ONCE)

    async def sweep(self) -> None:
        """Look at every entry of every plan once, and act on those that look abandoned."""
        await self._track_nodes()
        doubtful: dict[tuple[str, str], PodRef] = {}
        over: list[str] = []
        async for name in in_turns(self._knowledge.views, self._knowledge.way):
            doubtful |= self._doubtful_on(name)
            view = self._knowledge.views.get(name)
            if view is not None and held_too_long(view):
                over.append(name)
        await self._check(doubtful)
        await self._let_go(over)
        for uid in tuple(self._read_at):
            if not self._knowledge.assigned.nodes_of(uid):
                del self._read_at[uid]

    async def suspect(self, uids: Collection[str]) -> None:
        """Look at the entries of pods something has just happened to."""
        planned = {}
        for uid in uids:
            self._read_at.pop(uid, None)
            for node in self._knowledge.assigned.nodes_of(uid):
                for entry in self._knowledge.views[node].assignments_of(uid):
                    if entry.pod is not None:
                        planned[node, uid] = entry.pod
        await self._check({key: pod for key, pod in planned.items() if self._doubtful(key[0], pod)})

    async def _check(self, doubtful: Mapping[tuple[str, str], PodRef]) -> None:
        patience = Patience(self._knowledge)  # for all reads: where one fails, so do the others
        async with asyncio.TaskGroup() as tasks:
            for (node, uid), pod in doubtful.items():
                tasks.create_task(self._resolve(node, pod, patience), name=f"reclaim-{uid}")

    def _doubtful_on(self, node: str) -> dict[tuple[str, str], PodRef]:
        """Return the pods planned on a node that must be read, if it is still known."""
        view = self._knowledge.views.get(node)
        planned = () if view is None else view.node.spec.assignments
        return {
            (node, entry.pod.uid): entry.pod
            for entry in planned
            if entry.pod is not None and self._doubtful(node, entry.pod)
        }

    def _doubtful(self, node: str, pod: PodRef) -> bool:
        """Tell whether an entry's pod must be read to know if it still needs its place."""
        if self._underway.active(pod.uid):
            return False
        now = self._knowledge.clock()
        known = self._knowledge.pods.get(pod.uid)
        if known is None:
            recheck = self._knowledge.settings.unseen_pod_recheck_seconds
            return now >= self._read_at.get(pod.uid, float("-inf")) + recheck
        return known.over or self._unwanted(node, known)

    def _unwanted(self, node: str, pod: PodFacts) -> bool:
        """Tell whether a living pod is bound elsewhere, or was not bound here in time."""
        return pod.node != node if pod.node else self._knowledge.reservation_over(pod.ref.uid)

    async def _resolve(self, node: str, pod: PodRef, patience: Patience) -> None:
        self._read_at[pod.uid] = self._knowledge.clock()
        try:
            async with self._at_once:
                with self._underway.look(pod.uid) as look:
                    facts = await patience.again(
                        lambda: self._cluster.read_pod(pod.namespace, pod.name)
                    )
                    if facts is not None and facts.ref.uid != pod.uid:
                        facts = None
                    ended = facts is None or facts.over
                    if ended:
                        self._knowledge.read_ended(pod.uid)
                    hold = ended and await self._comes_back(node, pod, facts, patience)
                    unneeded = ended or (facts is not None and self._unwanted(node, facts))
                    in_vain = unneeded and not ended and facts is not None and not facts.node
                    ids = self._plans.ids_of(pod.uid, node)
                    if in_vain and not look.disturbed:
                        facts = await read_past_bindings(self._cluster, pod, ids, patience)
                        # If it has ended meanwhile, the next sweep sees who comes after it.
                        unneeded = facts is not None and not facts.over and facts.node != node
                    if unneeded and not look.disturbed:
                        # A bind that begins now comes to its turn for the plan after this.
                        view = self._knowledge.views.get(node) if in_vain else None
                        await self._plans.withdraw(node, ids, hold=hold)
                        if view is not None:
                            self._out_of_time(view, pod)
        except ClusterUnavailable as error:
            self._read_at.pop(pod.uid, None)  # nothing was learned: the next sweep tries again
            log.warning("reclaim_postponed", node=node, pod=pod.name, error=str(error))

    def _out_of_time(self, view: NodeView, pod: PodRef) -> None:
        """Hold it against an agent, and its GPUs, that has not realized a pod's place in its time.

        No bind was there to see the time run out; *view* is the node as it was then.
        """
        ids = [each.id for each in view.assignments_of(pod.uid)]
        if ids and not view.realized(ids):
            self._trust.not_realized(view, ids)

    async def _comes_back(
        self, node: str, pod: PodRef, facts: PodFacts | None, patience: Patience
    ) -> bool:
        """Tell whether the owner of a pod that has ended is about to make another in its place.

        It is if it keeps up more pods than have places, or are held one. A node that is cordoned
        would not take it, and what another waits for is not held.
        """
        knowledge = self._knowledge
        view = knowledge.views.get(node)
        entries = () if view is None else view.assignments_of(pod.uid)
        if view is not None and any(claimed(view, each) for each in entries):
            return False
        owner = next((each.owner for each in entries), None)
        if knowledge.settings.restart_hold_seconds <= 0 or owner is None:
            return False
        if node not in knowledge.nodes or knowledge.nodes[node]:
            return False
        if _in_gang(facts) or knowledge.gone.get(pod.uid, False):
            return False  # gangs are placed together, and inherit nothing
        try:
            wanted = await patience.again(lambda: self._cluster.pods_wanted(owner))
        except ClusterUnavailable as error:
            # Nothing is held on a guess, and no place is kept back for what cannot be read.
            log.warning("owner_unreadable", kind=owner.kind, name=owner.name, error=str(error))
            return False
        return knowledge.holds.entries_of(owner) <= wanted * len(entries)

    async def _let_go(self, nodes: Collection[str]) -> None:
        """Take reservations whose time is over out of plans that nothing else is written to.

        They count for nothing here; but a process that begins would keep them their time again.
        """
        patience = Patience(self._knowledge)

        async def let_go(node: str) -> None:
            try:
                async with self._at_once:
                    await self._plans.let_go(node, patience)
            except ClusterUnavailable as error:
                log.warning("reclaim_postponed", node=node, error=str(error))

        async with asyncio.TaskGroup() as tasks:
            for node in nodes:
                tasks.create_task(let_go(node), name=f"let-go-{node}")

    async def _track_nodes(self) -> None:
        """Give every node whose agent announces itself a GpuNode, and clear away empty ones."""
        knowledge = self._knowledge
        unplanned = knowledge.freshness.announced - knowledge.views.keys()
        await self._each(sorted(unplanned & knowledge.nodes.keys()), self._create)
        await self._each(sorted(knowledge.views.keys() - knowledge.nodes.keys()), self._clear_away)

    async def _each(self, names: Iterable[str], work: Callable[[str], Awaitable[None]]) -> None:
        """Do each node's part, the others later where no answer comes for several in a row."""
        in_vain = 0
        for name in names:
            try:
                await work(name)
            except ClusterUnavailable as error:
                log.warning("gpunode_postponed", node=name, error=str(error))
                in_vain = in_vain + 1 if error.passing else 0
                if in_vain == IN_VAIN:
                    return
            else:
                in_vain = 0

    async def _create(self, name: str) -> None:
        await self._restorer.make_anew(name)
        await self._plans.refresh(name)

    async def _clear_away(self, name: str) -> None:
        """Delete a GpuNode that is still empty, its Node still gone, when nobody else writes."""
        if (known := self._knowledge.views.get(name)) is None or not _empty(known):
            return
        async with self._plans.turn(name):
            await self._plans.refresh(name)
            view = self._knowledge.views.get(name)
            if view is not None and _empty(view) and name not in self._knowledge.nodes:
                await self._cluster.delete_gpu_node(view.node)
                self._knowledge.gpu_node_gone(name, view.node.metadata.uid)


def _empty(view: NodeView) -> bool:
    """Tell whether no pod has anything there; a place may be held for one that never comes."""
    return len(view.reservations) == len(view.node.spec.assignments) and not any(
        gpu.instances for gpu in view.node.status.gpus
    )


def _in_gang(facts: PodFacts | None) -> bool:
    asked = None if facts is None else facts.asked
    return isinstance(asked, Request) and asked.gang is not None
