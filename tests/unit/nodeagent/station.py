"""One simulated node with its agent, over the API server's in-memory twin."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from nodeagent.agent import Agent
from nodeagent.api import gpunode, keys
from nodeagent.api.gpunode import Assignment, GpuNode, Inventory, PodRef
from nodeagent.apiserver.memory import Call, InMemoryApi
from nodeagent.apiserver.protocol import GPU_NODES, LEASES, NODES, PODS, NotFound, PatchType
from nodeagent.apiserver.reflector import Pace
from nodeagent.journal_file import FileJournal
from nodeagent.kubelet import Holder
from nodeagent.settings import Settings
from nodeagent.simulated.admission import Admitted, Checkpoint
from nodeagent.simulated.driver import SimulatedDriver
from nodeagent.simulated.hardware import Hardware
from nodeagent.simulated.kubelet import SimulatedKubelet
from tests.unit.nodeagent.builders import hardware

NAME = "n1"
SOON = Pace(first_pause=0.001, longest_pause=0.001)
EAGER = Settings(first_retry_seconds=0.001, longest_retry_seconds=0.01)


class Station:
    """The node and what outlives its agent; :meth:`serving` is one life of the agent."""

    def __init__(self, machine: Hardware | None = None, *, journal: Path | None = None) -> None:
        self.api = InMemoryApi()
        self.api.disturbance = self._note
        self.hardware = machine or hardware(1)
        self.driver = SimulatedDriver(self.hardware)
        self.checkpoint = Checkpoint()
        self.journal_path = journal
        self.journal = FileJournal(journal)
        self.status_writes = 0
        self.lives = 0

    @property
    def gpu(self) -> str:
        """The UUID of the first GPU."""
        return self.hardware.gpus[0].uuid

    @contextlib.asynccontextmanager
    async def serving(self, settings: Settings = EAGER, **agent: Any) -> AsyncIterator[None]:
        """Let an agent and a kubelet, both new, serve the node meanwhile."""
        self.lives += 1
        if self.journal_path:
            self.journal = FileJournal(self.journal_path)
        running = Agent(
            NAME,
            api=self.api,
            driver=self.driver,
            kubelet=SimulatedKubelet(self.api, self.hardware, self.checkpoint, pace=SOON),
            journal=self.journal,
            epoch=f"life-{self.lives}",
            settings=settings,
            pace=SOON,
            **agent,
        )
        self.agent = running
        task = asyncio.create_task(running.run(), name="agent")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def install(self) -> None:
        """Create the Node and an empty GpuNode."""
        await self.api.create(NODES, {"metadata": {"name": NAME}})
        await self.create_gpu_node()

    async def create_gpu_node(self) -> None:
        body = {
            "apiVersion": keys.API_VERSION,
            "kind": keys.GPU_NODE_KIND,
            "metadata": {"name": NAME},
            "spec": {},
        }
        await self.api.create(GPU_NODES, body)

    async def plan(self, *assignments: Assignment) -> None:
        """Replace the plan, as the extender does."""
        patch = [{"op": "add", "path": "/spec/assignments", "value": assignments}]
        await self.api.patch(GPU_NODES, NAME, patch, patch_type=PatchType.JSON)

    async def tell(self, inventory: Inventory) -> None:
        """Write the status, as an agent does."""
        patch = [{"op": "add", "path": "/status", "value": inventory}]
        await self.api.patch(
            GPU_NODES, NAME, patch, patch_type=PatchType.JSON, subresource="status"
        )

    async def bind(self, name: str, devices: Mapping[str, int]) -> None:
        """Create a pod that is bound to the node."""
        await self.create_pod(name, devices)
        await self.bind_pod(name)

    async def create_pod(self, name: str, devices: Mapping[str, int]) -> PodRef:
        """Create a pod that is not bound yet, and tell how a plan names it."""
        limits = {resource: str(count) for resource, count in devices.items()}
        body = {
            "metadata": {"name": name},
            "spec": {"containers": [{"name": "c", "resources": {"limits": limits}}]},
        }
        made = msgspec.json.decode(await self.api.create(PODS, body, namespace="default"))
        return PodRef("default", name, made["metadata"]["uid"])

    async def bind_pod(self, name: str) -> None:
        binding = {"metadata": {"name": name}, "target": {"name": NAME}}
        await self.api.create(PODS, binding, namespace="default", name=name, subresource="binding")

    async def serve_elsewhere(self, name: str, gi_id: int, resource: str) -> PodRef:
        """Have a pod run on the first GPU with what another plugin gave it."""
        pod = await self.create_pod(name, {resource: 1})
        gpu = self.hardware.gpus[0]
        holder = Holder(resource, gpu.device(gi_id).id, pod)
        self.checkpoint.admitted[pod.uid] = Admitted((), self.hardware.boot_id, (holder,))
        self.hardware.open(gpu.uuid, gi_id, pod.uid)
        await self.bind_pod(name)
        return pod

    async def choose_gpus(self, which: str | None) -> None:
        """Say by the GpuNode's annotation which GPUs are Tangram's, or (None) nothing."""
        await self.api.patch(
            GPU_NODES,
            NAME,
            {"metadata": {"annotations": {keys.GPUS_ANNOTATION: which}}},
            patch_type=PatchType.MERGE,
        )

    async def delete_pod(self, name: str) -> None:
        await self.api.delete(PODS, name, namespace="default")

    async def gpu_node(self) -> GpuNode:
        return gpunode.decode(await self.api.get(GPU_NODES, NAME))

    async def status(self) -> Inventory:
        return (await self.gpu_node()).status

    async def pod(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.json.decode(
            await self.api.get(PODS, name, namespace="default")
        )
        return found

    async def lease(self) -> dict[str, Any]:
        raw = await self.api.get(LEASES, keys.lease_name(NAME), namespace=keys.SYSTEM_NAMESPACE)
        found: dict[str, Any] = msgspec.json.decode(raw)
        return found

    async def until(self, holds: Callable[[Inventory], bool]) -> Inventory:
        """Wait until the status is such, and return it."""
        async with asyncio.timeout(10):
            while True:
                status = await self.status()
                if holds(status):
                    return status

    async def until_realized(self, *ids: str) -> Inventory:
        return await self.until(lambda status: {r.id for r in status.realized} == set(ids))

    async def until_pod(self, name: str, phase: str) -> None:
        async with asyncio.timeout(10):
            while (await self.pod(name))["status"]["phase"] != phase:
                pass

    async def until_pod_gone(self, name: str) -> None:
        async with asyncio.timeout(10):
            with contextlib.suppress(NotFound):
                while await self.pod(name):
                    pass

    async def settle(self) -> None:
        """Give everybody so many turns that whatever was going to happen has happened."""
        for _ in range(300):
            await asyncio.sleep(0)

    async def _note(self, call: Call) -> None:
        if call.done and (call.verb, call.kind, call.subresource) == ("patch", GPU_NODES, "status"):
            self.status_writes += 1


def owners(status: Inventory) -> list[str]:
    """Return what each GPU instance was made for, "" for a foreign one."""
    return [each.assignment for gpu in status.gpus for each in gpu.instances]


def reasons(status: Inventory) -> dict[str, str]:
    """Return why each assignment has failed."""
    return {each.id: each.reason for each in status.failed}


def conditions(status: Inventory) -> dict[str, str]:
    """Return what each condition says."""
    return {each.type: each.message for each in status.conditions}
