"""The simulated cluster: API server, nodes with GPUs and agents, and the extender."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from extender.cluster import (
    ApiEvictor,
    ApiOrders,
    KubernetesCluster,
    KubeVirtRelocator,
    feed,
)
from extender.decision_log import DecisionLog
from extender.demo.pods import SCHEDULABLE
from extender.policy import InForce, Policy
from extender.server import serving
from extender.service import Service
from extender.service.seam import Seam
from extender.settings import Settings
from nodeagent.agent import Agent
from nodeagent.api import resources
from nodeagent.api.catalog import Model
from nodeagent.api.gpunode import Mode
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import NAMESPACES, NODES, PODS
from nodeagent.apiserver.reflector import Replaced, Upserted, reflect
from nodeagent.journal_file import FileJournal
from nodeagent.simulated.driver import SimulatedDriver
from nodeagent.simulated.hardware import Hardware
from nodeagent.simulated.kubelet import SimulatedKubelet

READY_WITHIN_SECONDS = 60.0
SETTLED_WITHIN_SECONDS = 30.0
NAMESPACE = "tenants"

TEAMS = ("vision", "speech", "search", "robotics", "simulation", "rendering")
"""The namespaces that VMs come from while somebody watches. Each namespace has its name as label
``team``, by which a policy's tenants may select it."""

POOL = {"pool": "training"}
"""Labels of the first node, by which a policy's pool may select it."""


class World:
    """What the demo acts on and looks at."""

    def __init__(self, api: InMemoryApi, service: Service, hardware: dict[str, Hardware]) -> None:
        self.api = api
        self.service = service
        self.hardware = hardware

    async def create(self, pod: dict[str, Any]) -> dict[str, Any]:
        """Create a pod and return it as the scheduler would see it."""
        namespace = pod["metadata"]["namespace"]
        return dict(msgspec.json.decode(await self.api.create(PODS, pod, namespace=namespace)))

    async def delete(self, name: str, namespace: str = NAMESPACE) -> None:
        """Delete a VM's pod."""
        await self.api.delete(PODS, name, namespace=namespace)

    async def pods(self) -> list[dict[str, Any]]:
        """Return every pod."""
        found, token = [], ""
        while True:
            page = await self.api.list(PODS, namespace=NAMESPACE, continue_token=token)
            found += [dict(msgspec.json.decode(raw)) for raw in page.items]
            token = page.continue_token
            if not token:
                return found

    async def admitted(self) -> None:
        """Wait until every bound pod's kubelet has let it in, or turned it away."""
        waiting: set[str] = set()
        changes = reflect(self.api, PODS, namespace=NAMESPACE)
        async with asyncio.timeout(SETTLED_WITHIN_SECONDS), contextlib.aclosing(changes):
            async for change in changes:
                match change:
                    case Replaced(objects=found):
                        waiting = {each.uid for each in found if not _let_in(each.raw)}
                    case Upserted(object=found) if _let_in(found.raw):
                        waiting.discard(found.uid)
                if not waiting:
                    return

    async def vacated(self, node: str, uid: str) -> None:
        """Wait until nothing on *node* is held for a pod that has left, or for long enough.

        What is held even then is a leak: it will be counted, not waited for.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLED_WITHIN_SECONDS):
                while self._holds(node, uid):
                    await self.service.knowledge.changes.of(node, within=SETTLED_WITHIN_SECONDS)

    async def emptied(self) -> None:
        """Wait until nothing is held anywhere, for anybody, or for long enough."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLED_WITHIN_SECONDS):
                for node in self.hardware:
                    while (
                        self._holds(node)
                        or self.service.knowledge.views[node].node.spec.assignments
                    ):
                        await self.service.knowledge.changes.of(node, within=SETTLED_WITHIN_SECONDS)

    def _holds(self, node: str, uid: str = "") -> bool:
        """Tell whether slices are planned for a pod, or taken though nobody's by now."""
        view = self.service.knowledge.views[node]
        planned = {assignment.id for assignment in view.node.spec.assignments}
        left_behind = any(
            instance.assignment not in planned
            for gpu in view.node.status.gpus
            for instance in gpu.instances
        )
        return bool(view.assignments_of(uid) or view.releasing or left_behind)


def _let_in(pod: bytes) -> bool:
    return msgspec.json.decode(pod)["status"].get("phase") in ("Running", "Failed")


def serving_mode(model: Model) -> Mode:
    """Return how a model is handed to VMs; without known vGPU types, to containers."""
    return Mode.VGPU_VFIO if model.vgpu_types else Mode.CONTAINER


def requestable(model: Model) -> dict[int, str]:
    """Return the resource by which each profile of a model is asked for."""
    served = resources.served(serving_mode(model), model.geometry, model.vgpu_types)
    found: dict[int, str] = {}
    for resource, profile_id in served.items():
        found.setdefault(profile_id, resource)
    return found


@contextlib.asynccontextmanager
async def world(
    model: Model,
    *,
    nodes: int,
    gpus: int,
    policy: InForce | Policy,
    settings: Settings | None = None,
    evicts: bool = False,
    decision_log: DecisionLog | None = None,
) -> AsyncIterator[tuple[World, str]]:
    """Run the cluster until the block ends; yield it with the URL of the hooks.

    Only one that *evicts* makes room for pods of higher priority, and carries plans of moves out.
    """
    api = InMemoryApi()
    width = len(str(nodes - 1))
    hardware = {
        name: Hardware(name, [model] * gpus, serving_mode(model))
        for name in (f"gpu-node-{index:0{width}}" for index in range(nodes))
    }
    service = Service(
        KubernetesCluster(api),
        settings,
        policy,
        evictor=ApiEvictor(api) if evicts else None,
        seam=Seam(time.monotonic, decision_log),
        orders=ApiOrders(api),
        relocator=KubeVirtRelocator(api),
    )
    if decision_log is not None:
        decision_log.follow(service.knowledge)
    for name in (NAMESPACE, *TEAMS):
        about = {"name": name, "labels": {"team": name}}
        await api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": about})
    for at, name in enumerate(hardware):
        labels = SCHEDULABLE | (POOL if at == 0 else {})
        about = {"name": name, "labels": labels}
        await api.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": about})
    async with serving(service) as url, asyncio.TaskGroup() as tasks:
        work = [
            tasks.create_task(feed(api, service.knowledge), name="feed"),
            tasks.create_task(service.run(), name="service"),
        ]
        for name, gpus_of_node in hardware.items():
            agent = Agent(
                name,
                api=api,
                driver=SimulatedDriver(gpus_of_node),
                kubelet=SimulatedKubelet(api, gpus_of_node),
                journal=FileJournal(),
                epoch=f"demo-{name}",
            )
            work.append(tasks.create_task(agent.run(), name=f"agent-{name}"))
        try:
            await _ready(service, hardware)
            yield World(api, service, hardware), url
        finally:
            for task in work:
                task.cancel()


async def _ready(service: Service, names: dict[str, Hardware]) -> None:
    """Wait until every agent has reported."""
    knowledge = service.knowledge
    async with asyncio.timeout(READY_WITHIN_SECONDS):
        for name in names:
            while not ((view := knowledge.views.get(name)) and view.reported and not view.stale):
                await knowledge.changes.of(name, within=READY_WITHIN_SECONDS)
