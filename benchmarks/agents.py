"""A cluster of our own in memory: its API server's writes take time, and its agents more."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from benchmarks.fleet import KnownFleet
from extender.cluster import KubernetesCluster, objects
from extender.request import Request
from extender.service.events import Warn
from extender.service.ports import Budget, PlanConflict, PodFacts
from nodeagent.api import gpunode
from nodeagent.api.gpunode import Assignment, GpuNode, OwnerRef, Plan, PodRef, Realized
from nodeagent.apiserver.memory import InMemoryApi

WRITE_SECONDS = 0.002  # of a plan to a kube-apiserver (measured)
DEVICES_PER_POD = 16


class AgentsCluster(KubernetesCluster):
    """A cluster that writes what it is told to, and whose agents realise it after some seconds.

    ``nodes`` is what the API server holds; the fleet that it is ``of`` hears of what the agents
    report, and of its pods. Those who were refused come back when they are ``woken``.
    """

    def __init__(self, *, realised_after: float, chance: random.Random) -> None:
        super().__init__(InMemoryApi())
        self.nodes: dict[str, GpuNode] = {}
        self.fleet: KnownFleet | None = None
        self._uids: dict[str, str] = {}
        self.woken: Callable[[], None] = lambda: None
        self._realised_after = realised_after
        self._chance = chance
        self._version = 1_000

    def of(self, fleet: KnownFleet) -> None:
        """Be the cluster of a *fleet*: hold its nodes, and have all pods run that have a place."""
        self.fleet, knowledge = fleet, fleet.service.knowledge
        self.nodes = {name: view.node for name, view in knowledge.views.items()}
        for view, entry in tuple(knowledge.entries()):
            if entry.pod is not None:
                self._uids[entry.pod.name] = entry.pod.uid
                asked = Request(entry.pod, (entry.resource,), owner=entry.owner)
                knowledge.pod(PodFacts(entry.pod, asked, node=view.name, phase="Running"))

    def comes(self, launcher: dict[str, Any]) -> None:
        """Show a new pod to the fleet, as the watch does."""
        assert self.fleet is not None
        meta = launcher["metadata"]
        self._uids[meta["name"]] = meta["uid"]
        raw = msgspec.json.encode(launcher)
        self.fleet.service.knowledge.pod(objects.pod(raw, devices_per_pod=DEVICES_PER_POD))

    def runs(self, uid: str, node: str) -> None:
        """Show that a pod runs on a node."""
        assert self.fleet is not None
        knowledge = self.fleet.service.knowledge
        known = knowledge.pods[uid]
        knowledge.pod(msgspec.structs.replace(known, node=node, phase="Running"))

    async def write_plan(
        self,
        node: GpuNode,
        *,
        add: Collection[Assignment] = (),
        remove: Collection[str] = (),
        hold: Collection[str] = (),
    ) -> GpuNode:
        """Write a plan, and have it realised."""
        await asyncio.sleep(WRITE_SECONDS)
        now = self.nodes[node.name]
        if now.metadata.generation != node.metadata.generation or hold:
            raise PlanConflict("another generation", refused=False)
        kept = [each for each in now.spec.assignments if each.id not in remove]
        written = self._written(now, spec=Plan((*kept, *add)))
        after = self._chance.uniform(0.0, 2.0) * self._realised_after
        ids = [each.id for each in add]
        asyncio.get_running_loop().call_later(after, self._obey, node.name, ids)
        return gpunode.decode(msgspec.json.encode(written))

    async def bind(
        self,
        pod: PodRef,
        node: str,
        annotations: Mapping[str, str],
        *,
        version: str,
        timeout: float,
    ) -> None:
        """Bind."""
        await asyncio.sleep(WRITE_SECONDS)

    async def void_bindings(self, pod: PodFacts, ids: Collection[str]) -> PodFacts | None:
        """Return a pod as the watch has it."""
        return await self.read_pod(pod.ref.namespace, pod.ref.name)

    async def read_pod(self, namespace: str, name: str) -> PodFacts | None:
        """Return a pod as the watch has it."""
        await asyncio.sleep(WRITE_SECONDS)
        assert self.fleet is not None
        return self.fleet.service.knowledge.pods.get(self._uids.get(name, ""))

    async def pods_wanted(self, owner: OwnerRef) -> int:
        """Say that no VM is started again."""
        await asyncio.sleep(WRITE_SECONDS)
        return 0

    @property
    def can_wake(self) -> bool:
        """Say that whoever was refused comes back when told to."""
        return True

    async def wake(self, stamp: str) -> None:
        """Let the refused come back."""
        await asyncio.sleep(WRITE_SECONDS)
        self.woken()

    def _obey(self, name: str, ids: Sequence[str]) -> None:
        """Be the agent that has made *ids*, and taken away what is not planned any more."""
        now, planned = self.nodes[name].status, {a.id for a in self.nodes[name].spec.assignments}
        realized = (*now.realized, *(Realized(id, "slot") for id in ids))
        realized = tuple(each for each in realized if each.id in planned)
        generation = self.nodes[name].metadata.generation
        self._report(
            name, msgspec.structs.replace(now, realized=realized, observed_generation=generation)
        )

    def change_health(self, name: str) -> None:
        """Let the agent report one of the node's GPUs healthy, or not."""
        now = self.nodes[name].status
        at = self._chance.randrange(len(now.gpus))
        gpu = now.gpus[at]
        changed = msgspec.structs.replace(gpu, unhealthy="" if gpu.unhealthy else "xid-79")
        gpus = (*now.gpus[:at], changed, *now.gpus[at + 1 :])
        self._report(name, msgspec.structs.replace(now, gpus=gpus))

    def _report(self, name: str, status: gpunode.Inventory) -> None:
        written = self._written(self.nodes[name], status=status)
        assert self.fleet is not None
        self.fleet.hear([msgspec.json.encode(written)])

    def _written(self, now: GpuNode, **parts: Plan | gpunode.Inventory) -> GpuNode:
        self._version += 1
        metadata = msgspec.structs.replace(
            now.metadata,
            resource_version=str(self._version),
            generation=now.metadata.generation + ("spec" in parts),
        )
        written = msgspec.structs.replace(now, metadata=metadata, **parts)
        self.nodes[now.name] = written
        return written


class Evictions:
    """An eviction API without disruption budgets; ``pods`` are the UIDs of those evicted.

    Each call takes as long as a write of a plan. Who is evicted is gone some seconds later, as the
    watch says through ``gone``.
    """

    def __init__(self, *, gone_after: float) -> None:
        self.pods: set[str] = set()
        self.gone: Callable[[str], None] = lambda uid: None
        self._gone_after = gone_after

    async def budgets(self, namespaces: Collection[str]) -> Sequence[Budget]:
        """Return none."""
        await asyncio.sleep(WRITE_SECONDS)
        return ()

    async def rehearse(self, pod: PodRef) -> None:
        """Refuse nobody's eviction."""
        await asyncio.sleep(WRITE_SECONDS)

    async def evict(self, pod: PodRef) -> None:
        """Have a pod end."""
        await asyncio.sleep(WRITE_SECONDS)
        if pod.uid not in self.pods:
            self.pods.add(pod.uid)
            asyncio.get_running_loop().call_later(self._gone_after, self.gone, pod.uid)


class Unread:
    """Events that nobody reads; to write one takes as long as a plan."""

    async def warn(self, pod: PodRef, reason: str, message: str) -> None:
        """Write one."""
        await asyncio.sleep(WRITE_SECONDS)

    async def about(self, pod: PodRef) -> Warn:
        """Return what writes one."""
        return partial(self.warn, pod)
