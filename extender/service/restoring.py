"""Writing again what pods had in a plan that was deleted under them.

::

    a GpuNode goes ─▶ what its plan had for pods is remembered ─▶ read the pods ─▶ made anew with it

What was promised stays promised until its pod has ended, be it bound, on its way to the kubelet, or
waiting for its instance: but to one that is not bound no longer than it would be, had nobody
deleted anything. Every replica remembers, for each has watched the plan; whoever leads writes. The
node's new plan begins with its entries, as they were, so that its agent never sees one without
them: it would destroy what no pod uses yet. Where somebody else has made the GpuNode anew, they are
added, but for what others have got there meanwhile.

Pods are read before it is our turn to write the plan, and judged in it: other places may have been
promised to them meanwhile, and theirs to others.

For whom no replica remembers, an agent tells who has what (``adoption``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import assert_never

import msgspec
import structlog

from extender.service.knowledge import Knowledge
from extender.service.plans import Plans
from extender.service.ports import Cluster, ClusterUnavailable, PlanConflict, PodFacts
from extender.service.underway import Look, Underway
from extender.snapshot import Taken
from extender.verbs.record import in_their_place
from nodeagent.api.gpunode import Assignment, PodRef

log = structlog.get_logger()

READS_AT_ONCE = 32


class _Fate(Enum):
    """What becomes of what a pod has lost."""

    WRITTEN = auto()
    LEFT = auto()  # for the next sweep
    FORGOTTEN = auto()


class _Read(msgspec.Struct, frozen=True):
    """What was read of a pod, None if there is none, and whether a bind has come between.

    ``past`` is whether no Binding posted before binds it any more, should it be bound to no node.
    """

    facts: PodFacts | None
    look: Look
    past: bool = False


class Restorer:
    """Knows whose entries are to be written again, and writes them.

    A pod whose bind is *underway* is not taken for one that does not come to bind.
    """

    def __init__(
        self, knowledge: Knowledge, plans: Plans, cluster: Cluster, underway: Underway
    ) -> None:
        self._knowledge = knowledge
        self._plans = plans
        self._cluster = cluster
        self._underway = underway
        self._at_once = asyncio.Semaphore(READS_AT_ONCE)

    async def sweep(self) -> None:
        """Write into every plan what it has lost."""
        for node in tuple(self._knowledge.lost):
            if node in self._knowledge.views:
                try:
                    await self._restore(node)
                except (ClusterUnavailable, PlanConflict) as error:
                    # The next sweep is soon enough: it reads the pods again.
                    log.warning("restoring_postponed", node=node, error=str(error))

    async def make_anew(self, node: str) -> None:
        """Give a node a GpuNode whose plan has what the last one had of pods that may use it.

        Raises:
            ClusterUnavailable: not all of these pods could be read now, or nothing was made.
        """
        with contextlib.ExitStack() as looks:
            pods = await self._read(node, looks)
            async with self._plans.turn(node):
                await self._cluster.create_gpu_node(node, self._entries(node, pods))

    async def _restore(self, node: str) -> None:
        with contextlib.ExitStack() as looks:
            pods = await self._read(node, looks)
            async with self._plans.turn(node):
                entries, view = self._entries(node, pods), self._knowledge.views.get(node)
                if view is not None and entries:
                    instead = in_their_place(view, entries)
                    await self._plans.write(view, add=entries, remove=instead, told=True)
                    log.info("assignments_restored", node=node, ids=[each.id for each in entries])

    async def _read(self, node: str, looks: contextlib.ExitStack) -> Mapping[str, _Read | None]:
        """Read the pods that have lost something on a node, by UID, and look at them from then on.

        Those that cannot be read, however often it is tried, are None.

        Raises:
            ClusterUnavailable: not all of them could be read now.
        """
        found: dict[str, _Read | None] = {}
        failed: dict[str, ClusterUnavailable] = {}

        async def read(pod: PodRef, look: Look) -> None:
            try:
                async with self._at_once:
                    facts = await self._cluster.read_pod(pod.namespace, pod.name)
                    if facts is not None and facts.ref.uid != pod.uid:
                        facts = None
                    found[pod.uid] = await self._past_bindings(node, pod, _Read(facts, look))
            except ClusterUnavailable as error:
                found[pod.uid], failed[pod.uid] = None, error

        lost = self._knowledge.lost.get(node, {})
        async with asyncio.TaskGroup() as tasks:
            for pod in dict.fromkeys(each.pod for each in lost if each.pod is not None):
                look = looks.enter_context(self._underway.look(pod.uid))
                tasks.create_task(read(pod, look), name=f"restore-{pod.uid}")
        for uid, error in failed.items():
            if error.passing:
                raise error
            log.warning("pod_not_restored", node=node, uid=uid, error=str(error))
        return found

    def _entries(self, node: str, pods: Mapping[str, _Read | None]) -> Sequence[Assignment]:
        """Return what a plan is to say again, of the *pods* that were read; forget what never.

        Of a pod that has lost something only since they were it is all: it was not asked about, and
        a plan without it would have its agent destroy what the pod may be about to use.
        """
        entries: list[Assignment] = []
        lost = self._knowledge.lost.get(node, {})
        for uid in dict.fromkeys(each.pod.uid for each in lost if each.pod is not None):
            theirs = [each for each in lost if each.pod is not None and each.pod.uid == uid]
            match self._fate(node, uid, theirs, pods[uid]) if uid in pods else _Fate.WRITTEN:
                case _Fate.WRITTEN:
                    entries += theirs
                case _Fate.FORGOTTEN:
                    self._knowledge.forget_lost(node, uid)
                case _Fate.LEFT:
                    pass
                case unexpected:
                    assert_never(unexpected)
        return entries

    def _fate(
        self, node: str, uid: str, entries: Sequence[Assignment], read: _Read | None
    ) -> _Fate:
        """Judge what a pod has lost, as all is known at this moment.

        It may use its place if it is bound there. If it is bound nowhere it may, too, but not if it
        has been given another place meanwhile, nor for longer than any pod that does not come to
        bind; and not over what is being promised to somebody.
        """
        if read is None:
            return _Fate.LEFT
        knowledge, told = self._knowledge, self._knowledge.pods.get(uid)
        seen = [each for each in (read.facts, told) if each is not None]
        bound = next((each.node for each in seen if each.node), "")
        if read.facts is None or uid in knowledge.ended or any(each.over for each in seen):
            return _Fate.FORGOTTEN
        if bound:
            return _Fate.WRITTEN if bound == node else _Fate.FORGOTTEN
        if knowledge.assigned.nodes_of(uid) or (
            knowledge.lost_reservation_over(node, uid) and not read.look.disturbed
        ):
            return _Fate.FORGOTTEN if read.past else _Fate.LEFT
        promised = knowledge.ledger.assumed_on(node, besides=uid)
        if uid in knowledge.ledger.assumed or _meet(entries, promised):
            return _Fate.LEFT
        return _Fate.WRITTEN

    async def _past_bindings(self, node: str, pod: PodRef, read: _Read) -> _Read:
        """See that no Binding binds a pod any more that has no right to what it has lost.

        While that cannot be done, the pod keeps its place; others need not wait for theirs.
        """
        knowledge, facts = self._knowledge, read.facts
        over = knowledge.lost_reservation_over(node, pod.uid) and not read.look.disturbed
        if facts is None or facts.node or facts.over:
            return read
        if not (over or knowledge.assigned.nodes_of(pod.uid)):
            return read
        lost = [each.id for each in knowledge.lost.get(node, ()) if each.pod == pod]
        try:
            ids = (*lost, *self._plans.ids_of(pod.uid))
            return _Read(await self._cluster.void_bindings(facts, ids), read.look, past=True)
        except ClusterUnavailable as error:
            log.warning("restoring_postponed", node=node, uid=pod.uid, error=str(error))
            return read


def _meet(entries: Sequence[Assignment], others: Sequence[Taken]) -> bool:
    return any(
        each.gpu == other.gpu and each.placement.mask & other.placement.mask
        for each in entries
        for other in others
    )
