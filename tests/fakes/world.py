"""A small cluster over the in-memory API server, with an agent that does what the test says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from extender import wire
from extender.cluster import (
    ApiEvictor,
    ApiNodeEvents,
    ApiOrders,
    ApiPodEvents,
    KubernetesCluster,
    KubeVirtRelocator,
    OwnPod,
    feed,
)
from extender.policy import InForce, PolicyName
from extender.service import Service
from extender.service.seam import Seam, Witness
from extender.settings import Settings
from nodeagent.api import gpunode, keys
from nodeagent.api.gpunode import Decision, Failed, Gpu, GpuNode, Instance, Realized
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import (
    GPU_NODES,
    LEASES,
    NAMESPACES,
    NODES,
    PODS,
    ApiServer,
    Kind,
    NotFound,
    PatchType,
)
from nodeagent.apiserver.reflector import reflect
from tests.builders import gpu_node, raw_pod
from tests.waiting import until

QUICK = Settings(
    http_timeout_seconds=2.0,
    answer_margin_seconds=0.1,
    binding_start_margin_seconds=0.05,
    binding_timeout_seconds=0.05,
    sweep_interval_seconds=0.02,
    wake_interval_seconds=0.01,
    preemption_patience_seconds=0.02,
    preemption_pause_seconds=0.05,
    preemption_longest_pause_seconds=0.2,
)


class World:
    """Nodes, pods and GpuNodes as the API server holds them."""

    def __init__(self) -> None:
        self.api = InMemoryApi()

    @contextlib.asynccontextmanager
    async def extender(
        self,
        settings: Settings = QUICK,
        policy: InForce | PolicyName = PolicyName.DEFAULT,
        *,
        api: ApiServer | None = None,
        clock: Callable[[], float] | None = None,
        witness: Witness | None = None,
    ) -> AsyncIterator[Service]:
        """Run an extender until the block ends; it knows all there is when the block begins.

        It reaches the API server through *api*, where one is given.
        """
        api = api or self.api
        clock = clock or asyncio.get_running_loop().time
        service = Service(
            KubernetesCluster(api, own_pod=OwnPod(keys.SYSTEM_NAMESPACE, "extender-0")),
            settings,
            policy,
            clock=clock,
            seam=Seam(clock, witness),
            evictor=ApiEvictor(api),
            orders=ApiOrders(api),
            relocator=KubeVirtRelocator(api),
            events=ApiPodEvents(api, lambda: datetime.now(UTC), instance="extender-0"),
            node_events=ApiNodeEvents(api, lambda: datetime.now(UTC), instance="extender-0"),
        )
        async with asyncio.TaskGroup() as tasks:
            work = [
                tasks.create_task(feed(api, service.knowledge)),
                tasks.create_task(service.run()),
            ]
            try:
                await until(lambda: not service.knowledge.freshness.not_ready())
                yield service
            finally:
                for task in work:
                    task.cancel()

    async def add_namespace(self, name: str, **labels: str) -> None:
        await self.api.create(NAMESPACES, {"metadata": {"name": name, "labels": labels}})

    async def add_node(self, name: str, *, gpus: int | Iterable[Gpu] = 1, **labels: str) -> None:
        """Add a node whose agent has reported."""
        await self.api.create(NODES, {"metadata": {"name": name, "labels": labels}})
        status = gpu_node(name, gpus=gpus).status
        body = {
            "metadata": {"name": keys.lease_name(name), "labels": {keys.AGENT_LABEL: "true"}},
            "spec": {"holderIdentity": status.agent_epoch},
        }
        await self.api.create(LEASES, body, namespace=keys.SYSTEM_NAMESPACE)
        await self.api.create(GPU_NODES, {"metadata": {"name": name}, "spec": {}})
        await self.report(name, status)

    async def begin_anew(self, name: str, epoch: str) -> None:
        """Let another agent show that it lives, and tell nothing yet; *epoch* is its process."""
        await self.api.patch(
            LEASES,
            keys.lease_name(name),
            {"spec": {"holderIdentity": epoch}},
            patch_type=PatchType.MERGE,
            namespace=keys.SYSTEM_NAMESPACE,
        )

    async def report(self, name: str, status: gpunode.Inventory) -> None:
        """Write an inventory, as the agent does."""
        await self.api.patch(
            GPU_NODES,
            name,
            [{"op": "add", "path": "/status", "value": msgspec.to_builtins(status)}],
            patch_type=PatchType.JSON,
            subresource="status",
        )

    async def plan_holds(self, count: int, node: str = "node-1") -> None:
        """Wait until the plan of *node* has *count* entries."""

        async def holds() -> bool:
            return len((await self.gpu_node(node)).spec.assignments) == count

        await until(holds)

    async def gpu_node(self, name: str) -> GpuNode:
        return gpunode.decode(await self.api.get(GPU_NODES, name))

    async def obey(self, name: str) -> None:
        """Make what exists equal the plan, and report every assignment realized."""
        node = await self.gpu_node(name)
        assignments = [each for each in node.spec.assignments if each.pod is not None]
        gpus = tuple(
            msgspec.structs.replace(
                gpu,
                instances=tuple(
                    Instance(index, a.profile_id, a.start, a.size, a.id)
                    for index, a in enumerate(assignments)
                    if a.gpu == gpu.uuid
                ),
            )
            for gpu in node.status.gpus
        )
        realized = tuple(Realized(a.id, f"slot-{a.id}") for a in assignments)
        await self.report(
            name,
            msgspec.structs.replace(
                node.status,
                gpus=gpus,
                realized=realized,
                failed=(),
                observed_generation=node.metadata.generation,
            ),
        )

    async def fail(self, name: str, reason: str) -> None:
        """Report that nothing planned can be realized."""
        node = await self.gpu_node(name)
        failed = tuple(Failed(a.id, reason) for a in node.spec.assignments)
        await self.report(name, msgspec.structs.replace(node.status, failed=failed))

    @contextlib.asynccontextmanager
    async def obedient(self, *names: str) -> AsyncIterator[None]:
        """Let the agents of *names* obey every plan at once, until the block ends."""

        async def agent(name: str) -> None:
            generation = -1
            async with contextlib.aclosing(reflect(self.api, GPU_NODES)) as changes:
                async for _ in changes:
                    with contextlib.suppress(NotFound):
                        node = await self.gpu_node(name)
                        if node.metadata.generation != generation:
                            generation = node.metadata.generation
                            await self.obey(name)

        async with asyncio.TaskGroup() as tasks:
            work = [tasks.create_task(agent(name)) for name in names]
            try:
                yield
            finally:
                for task in work:
                    task.cancel()

    async def add_pod(
        self,
        name: str,
        *wanted: str,
        annotations: Mapping[str, str] | None = None,
        grace: int = 0,
        **fields: Any,
    ) -> dict[str, Any]:
        """Create a pod and return it; with a *grace* (seconds) it stays when it is to end."""
        pod = raw_pod(*wanted, name=name, **fields)
        if annotations:
            pod["metadata"]["annotations"] = dict(annotations)
        del pod["metadata"]["uid"]
        pod["spec"]["terminationGracePeriodSeconds"] = grace
        namespace = pod["metadata"]["namespace"]
        made = await self.api.create(PODS, pod, namespace=namespace)
        return dict(msgspec.json.decode(made))

    async def add_owner(self, kind: Kind, name: str, *, replicas: int | None = None) -> None:
        """Create what makes a pod again, such as a VirtualMachine."""
        self.api.register(kind)
        spec = {} if replicas is None else {"replicas": replicas}
        await self.api.create(kind, {"metadata": {"name": name}, "spec": spec}, namespace="default")

    async def delete_pod(self, pod: dict[str, Any]) -> None:
        await self.api.delete(PODS, pod["metadata"]["name"], namespace="default")

    async def pod(self, name: str, namespace: str = "default") -> dict[str, Any] | None:
        try:
            return dict(msgspec.json.decode(await self.api.get(PODS, name, namespace=namespace)))
        except NotFound:
            return None

    async def bound(self, name: str, namespace: str = "default") -> str:
        """Return the node a pod is bound to, "" if to none."""
        pod = await self.pod(name, namespace)
        return "" if pod is None else str(pod["spec"].get("nodeName", ""))

    async def decision(self, name: str) -> list[Decision]:
        pod = await self.pod(name)
        assert pod is not None
        text = pod["metadata"]["annotations"][keys.DECISION_ANNOTATION]
        return msgspec.json.decode(text, type=list[Decision])


def filter_args(pod: dict[str, Any], *nodes: str) -> wire.ExtenderArgs:
    body = {"Pod": pod, "NodeNames": list(nodes)}
    return wire.decode(msgspec.json.encode(body), wire.ExtenderArgs)


def bind_args(pod: dict[str, Any], node: str) -> wire.BindingArgs:
    meta = pod["metadata"]
    return wire.BindingArgs(meta["name"], meta["namespace"], meta["uid"], node)
