"""Writing again what pods had in a plan that was deleted under them.

::

    a GpuNode goes ─▶ what its plan had for pods is remembered ─▶ read the pods ─▶ made anew with it

What was promised stays promised until its pod has ended, be it bound, on its way to the kubelet, or
waiting for its instance. Every replica remembers, for each has watched the plan; whoever leads
writes. The node's new plan begins with its entries, as they were, so that its agent never sees one
without them: it would destroy what no pod uses yet. Where somebody else has made the GpuNode anew,
they are added, but for what others have got there meanwhile.

For whom no replica remembers, an agent tells who has what (``adoption``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from extender.service.knowledge import Knowledge
from extender.service.plans import Plans
from extender.service.ports import Cluster, ClusterUnavailable, PlanConflict
from extender.verbs.record import in_their_place
from nodeagent.api.gpunode import Assignment, PodRef

log = structlog.get_logger()

READS_AT_ONCE = 32


class Restorer:
    """Knows whose entries are to be written again, and writes them into plans made by others."""

    def __init__(self, knowledge: Knowledge, plans: Plans, cluster: Cluster) -> None:
        self._knowledge = knowledge
        self._plans = plans
        self._cluster = cluster
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

    async def entries(self, node: str) -> Sequence[Assignment]:
        """Return what a node's plan has lost, of pods that may still use it; forget the others.

        Those of pods that cannot be read, however often it is tried, are left for later.

        Raises:
            ClusterUnavailable: not all of them could be read now.
        """
        lost = self._knowledge.lost.get(node, ())
        unread: dict[str, ClusterUnavailable] = {}

        async def look(pod: PodRef) -> None:
            try:
                async with self._at_once:
                    wanted = await self._wanted(node, pod)
            except ClusterUnavailable as error:
                unread[pod.uid] = error
            else:
                if not wanted:
                    self._knowledge.forget_lost(node, pod.uid)

        async with asyncio.TaskGroup() as tasks:
            for pod in {each.pod for each in lost if each.pod is not None}:
                tasks.create_task(look(pod), name=f"restore-{pod.uid}")
        for uid, error in unread.items():
            if error.passing:
                raise error
            log.warning("pod_not_restored", node=node, uid=uid, error=str(error))
        left = self._knowledge.lost.get(node, ())
        return tuple(each for each in left if each.pod is not None and each.pod.uid not in unread)

    async def _wanted(self, node: str, pod: PodRef) -> bool:
        """Tell whether a pod may use its place yet: it is bound there, or is bound nowhere.

        In the latter case one that has been given another place meanwhile does not.
        """
        facts = await self._cluster.read_pod(pod.namespace, pod.name)
        if facts is None or facts.ref.uid != pod.uid or facts.over:
            return False
        return facts.node == node or not (facts.node or self._knowledge.assigned.nodes_of(pod.uid))

    async def _restore(self, node: str) -> None:
        wanted = await self.entries(node)
        async with self._plans.turn(node):
            view, lost = self._knowledge.views.get(node), self._knowledge.lost.get(node, ())
            entries = [each for each in lost if each in wanted]
            if view is not None and entries:
                await self._plans.write(view, add=entries, remove=in_their_place(view, entries))
                log.info("assignments_restored", node=node, ids=[each.id for each in entries])
