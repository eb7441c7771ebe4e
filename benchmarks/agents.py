"""A cluster of our own in memory: its API server's writes take time, and its agents more."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

import msgspec

from benchmarks.fleet import KnownFleet
from extender.cluster import KubernetesCluster
from extender.service.ports import PlanConflict, PodFacts, Warn
from nodeagent.api import gpunode
from nodeagent.api.gpunode import Assignment, GpuNode, OwnerRef, Plan, PodRef, Realized
from nodeagent.apiserver.memory import InMemoryApi

WRITE_SECONDS = 0.002  # of a plan to a kube-apiserver (measured)


class AgentsCluster(KubernetesCluster):
    """A cluster that writes what it is told to, and whose agents realise it after some seconds.

    ``nodes`` is what the API server holds; the ``fleet`` hears of what the agents report. Those who
    were refused come back when they are ``woken``.
    """

    def __init__(self, *, realised_after: float, chance: random.Random) -> None:
        super().__init__(InMemoryApi())
        self.nodes: dict[str, GpuNode] = {}
        self.fleet: KnownFleet | None = None
        self.woken: Callable[[], None] = lambda: None
        self._realised_after = realised_after
        self._chance = chance
        self._version = 1_000

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
        self, pod: PodRef, node: str, annotations: Mapping[str, str], *, timeout: float
    ) -> None:
        """Bind."""
        await asyncio.sleep(WRITE_SECONDS)

    async def read_pod(self, namespace: str, name: str) -> PodFacts | None:
        """Return a pod as the watch has it."""
        await asyncio.sleep(WRITE_SECONDS)
        assert self.fleet is not None
        known = self.fleet.service.knowledge.pods.get(f"uid-{name}")
        return known if known is not None and known.ref.name == name else None

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


class Unread:
    """Events that nobody reads; to write one takes as long as a plan."""

    async def warn(self, pod: PodRef, reason: str, message: str) -> None:
        """Write one."""
        await asyncio.sleep(WRITE_SECONDS)

    async def about(self, pod: PodRef) -> Warn:
        """Return what writes one."""
        return partial(self.warn, pod)
