"""Taking VMs into the plan of which it does not say that they run.

::

    the inventory tells of a pod that has an unplanned GPU instance ─▶ read it ─▶ label it ─▶ plan

From the entry on, the agent takes the GPU instance for ours, and the pod's end gives it back like
any other. The label comes first: whatever is cut off after it is found and finished by the next
sweep, and labelling twice is nothing. Of the pod itself nothing else changes.

Such are VMs that ran before Tangram came, and those whose entry is lost: somebody has deleted the
GpuNode, and no replica remembers what it said (``restoring``). What was made for that entry is
known by its id, so it is written again as it was. Whose it is the kubelet says; the pod's own
annotation, which its owner may change, is not asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

import structlog

from extender.request import Request
from extender.service.knowledge import Knowledge
from extender.service.plans import Plans
from extender.service.ports import Cluster, ClusterUnavailable, PlanConflict
from extender.service.turns import in_turns
from extender.snapshot import Held, NodeView
from extender.verbs.record import adoptable, in_their_place
from nodeagent.api import rfc3339
from nodeagent.api.gpunode import Assignment, PodRef

log = structlog.get_logger()

AT_ONCE = 32  # where Tangram comes to a large cluster, thousands of pods are adopted


class Adopter:
    """Writes assignments for pods that were served before us, or have lost theirs.

    ``new_id`` gives an id to each that has none from before.
    """

    def __init__(
        self,
        knowledge: Knowledge,
        plans: Plans,
        cluster: Cluster,
        *,
        new_id: Callable[[], str],
        utc_now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._knowledge = knowledge
        self._plans = plans
        self._cluster = cluster
        self._new_id = new_id
        self._utc_now = utc_now
        self._tried_at: dict[tuple[str, str], float] = {}
        self._at_once = asyncio.Semaphore(AT_ONCE)

    async def sweep(self) -> None:
        """Adopt every pod that an inventory tells of and no plan does."""
        waiting = {
            (name, held.pod.uid): held.pod
            async for name in in_turns(self._knowledge.views, self._knowledge.way)
            for held in self._adoptable(self._knowledge.views.get(name))
        }
        self._tried_at = {key: at for key, at in self._tried_at.items() if key in waiting}
        again = self._knowledge.settings.unseen_pod_recheck_seconds
        now = self._knowledge.clock()
        async with asyncio.TaskGroup() as tasks:
            for (node, uid), pod in waiting.items():
                if now >= self._tried_at.get((node, uid), float("-inf")) + again:
                    self._tried_at[node, uid] = now
                    tasks.create_task(self._try(node, pod), name=f"adopt-{uid}")

    async def _try(self, node: str, pod: PodRef) -> None:
        try:
            async with self._at_once:
                await self._adopt(node, pod)
        except (ClusterUnavailable, PlanConflict) as error:
            # The next sweep is soon enough; nothing hurries here.
            self._tried_at.pop((node, pod.uid), None)
            log.warning("adoption_postponed", node=node, pod=pod.name, error=str(error))

    def _adoptable(self, view: NodeView | None) -> Iterator[Held]:
        """Yield what pods have on a live node, but for those whose entries are remembered.

        These are written again whole (``restoring``), be the GPU instance of one gone or not.
        """
        if view is None or view.stale:
            return
        lost = self._knowledge.lost.get(view.name, ())
        remembered = {each.pod.uid for each in lost if each.pod is not None}
        yield from (each for each in adoptable(view) if each.pod.uid not in remembered)

    async def _adopt(self, node: str, pod: PodRef) -> None:
        facts = await self._cluster.read_pod(pod.namespace, pod.name)
        if facts is None or facts.ref.uid != pod.uid or facts.over or facts.node != node:
            return  # the inventory is late: the pod has ended
        if not isinstance(facts.asked, Request):
            log.warning("pod_not_adopted", node=node, pod=pod.name, reason="it asks for none")
            return
        if not await self._cluster.mark_managed(pod):
            return
        async with self._plans.turn(node):
            view = self._knowledge.views.get(node)
            entries = () if view is None else self._entries(view, facts.asked)
            if view is not None and entries:
                instead = in_their_place(view, entries)
                await self._plans.write(view, add=entries, remove=instead, told=True)
                log.info(
                    "pod_adopted",
                    node=node,
                    pod=pod.name,
                    namespace=pod.namespace,
                    ids=[each.id for each in entries],
                )

    def _entries(self, view: NodeView, request: Request) -> Sequence[Assignment]:
        used, entries = {each.id for each in view.node.spec.assignments}, []
        for held in self._adoptable(view):
            if held.pod.uid != request.pod.uid or held.resource not in request.wanted:
                continue
            known = held.assignment and held.assignment not in used
            entry = Assignment(
                id=held.assignment if known else self._new_id(),
                gpu=held.gpu,
                profile_id=held.profile_id,
                start=held.placement.start,
                size=held.placement.size,
                resource=held.resource,
                since=rfc3339.microseconds(self._utc_now()),
                pod=request.pod,
                owner=request.owner,
            )
            used.add(entry.id)
            entries.append(entry)
        return entries
