"""Taking back what nobody uses: places of pods that are gone, and nodes that are no more.

A place is only ever given back after its pod was read from the API server: a watch may be late,
and a pod that merely lost its label still runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

import structlog

from extender.service.plans import Plans
from extender.service.ports import Cluster, ClusterUnavailable, PodFacts
from extender.service.state import State
from nodeagent.api.gpunode import PodRef

log = structlog.get_logger()


class Reclaimer:
    """Finds what to take back and takes it back; ``active`` tells whether a bind is under way."""

    def __init__(
        self, state: State, plans: Plans, cluster: Cluster, *, active: Callable[[str], bool]
    ) -> None:
        self._state = state
        self._plans = plans
        self._cluster = cluster
        self._active = active
        self._read_at: dict[str, float] = {}

    async def sweep(self) -> None:
        """Look at every entry of every plan once, and act on those that look abandoned."""
        await self._track_nodes()
        planned = {
            (view.name, entry.pod.uid): entry.pod
            for view, entry in self._state.entries()
            if entry.pod is not None
        }
        await self._check(planned)
        for memory in (self._state.touched, self._read_at):
            for uid in memory.keys() - {uid for _, uid in planned}:
                del memory[uid]

    async def suspect(self, uids: Collection[str]) -> None:
        """Look at the entries of pods something has just happened to."""
        planned = {}
        for uid in uids:
            self._read_at.pop(uid, None)
            view = self._state.views.get(self._state.assigned.get(uid, ""))
            for entry in () if view is None else view.assignments_of(uid):
                if view is not None and entry.pod is not None:
                    planned[view.name, uid] = entry.pod
        await self._check(planned)

    async def _check(self, planned: Mapping[tuple[str, str], PodRef]) -> None:
        async with asyncio.TaskGroup() as tasks:
            for (node, uid), pod in planned.items():
                if self._doubtful(node, pod):
                    tasks.create_task(self._resolve(node, pod), name=f"reclaim-{uid}")

    def _doubtful(self, node: str, pod: PodRef) -> bool:
        """Tell whether an entry's pod must be read to know if it still needs its place."""
        if self._active(pod.uid):
            return False
        now = self._state.clock()
        known = self._state.pods.get(pod.uid)
        if known is None:
            again = self._read_at.get(pod.uid, -1e9) + self._state.settings.unseen_pod_recheck
            return now >= again
        return known.over or self._unwanted(node, known, now)

    def _unwanted(self, node: str, pod: PodFacts, now: float) -> bool:
        """Tell whether a living pod is bound elsewhere, or was not bound here in time."""
        if pod.node:
            return pod.node != node
        since = self._state.touched.setdefault(pod.ref.uid, now)
        return now - since > self._state.settings.reservation

    async def _resolve(self, node: str, pod: PodRef) -> None:
        try:
            facts = await self._cluster.read_pod(pod.namespace, pod.name)
            now = self._state.clock()
            self._read_at[pod.uid] = now
            if (
                facts is None
                or facts.ref.uid != pod.uid
                or facts.over
                or self._unwanted(node, facts, now)
            ) and not self._active(pod.uid):
                await self._plans.withdraw_pod(node, pod.uid)
        except ClusterUnavailable as error:
            log.warning("reclaim_postponed", node=node, pod=pod.name, error=str(error))

    async def _track_nodes(self) -> None:
        """Give every node whose agent announces itself a GpuNode, and clear away empty ones."""
        state = self._state
        try:
            for name in [n for n in state.announced if n in state.nodes and n not in state.views]:
                await self._cluster.create_gpu_node(name)
                await self._plans.refresh(name)
            for view in [v for v in state.views.values() if v.name not in state.nodes]:
                if not view.node.spec.assignments and not any(
                    gpu.instances for gpu in view.node.status.gpus
                ):
                    await self._cluster.delete_gpu_node(view.node)
                    state.gpu_node_gone(view.name, view.node.metadata.uid)
        except ClusterUnavailable as error:
            log.warning("gpunodes_postponed", error=str(error))
