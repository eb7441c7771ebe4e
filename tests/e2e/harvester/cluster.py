"""The cluster: what a test does to it, and what it asks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from nodeagent.api import gpunode
from nodeagent.api.gpunode import GpuNode
from nodeagent.apiserver.protocol import GPU_NODES, PODS, Kind, NotFound, PatchType
from nodeagent.apiserver.rest import RestApi
from tests.e2e.controlplane.cluster import ControlPlane
from tests.e2e.harvester.administered import Administered
from tests.e2e.harvester.excused import unexcused
from tests.e2e.harvester.judge import missed
from tests.e2e.harvester.nodes import Node
from tests.e2e.harvester.place import Place, place
from tests.e2e.harvester.witness import Witness
from tests.fakes.kubevirt import virtual_machine
from tests.fakes.pcidevices import log as deeds
from tests.fakes.pcidevices.log import Entry, Log
from tests.fakes.pcidevices.names import VMIS, VMS, Version, device_name, resource_name
from tests.fakes.pcidevices.webhooks import allocated
from tests.waiting import until

TYPES = {
    19: "NVIDIA A100X-1-5C",
    14: "NVIDIA A100X-2-10C",
    9: "NVIDIA A100X-3-20C",
    5: "NVIDIA A100X-4-20C",
    0: "NVIDIA A100X-7-40C",
}
"""vGPU types by profile."""
RESOURCES = {profile: resource_name(name) for profile, name in TYPES.items()}


class Cluster:
    """What a test holds."""

    def __init__(
        self, plane: ControlPlane, api: RestApi, log: Log, version: Version, witness: Witness
    ) -> None:
        self.plane = plane
        self.api = api
        self.log = log
        self.version = version
        self.witness = witness
        self.administered = Administered(log)
        self.nodes: dict[str, Node] = {}

    # -- VMs ---------------------------------------------------------------------------------------

    async def create(self, name: str, *profiles: int, **options: Any) -> None:
        """Create a VM with a vGPU for each of *profiles*, as one who knows nothing of Tangram."""
        vm = virtual_machine(name, *(RESOURCES[each] for each in profiles), **options)
        await self.api.create(VMS, vm, namespace="default")

    async def delete(self, name: str) -> None:
        await self.api.delete(VMS, name, namespace="default")

    async def run(self, name: str, strategy: str) -> None:
        """Have a VM run ("Always"), or be off ("Halted")."""
        patch = {"spec": {"runStrategy": strategy}}
        await self.api.patch(VMS, name, patch, patch_type=PatchType.MERGE, namespace="default")

    async def phases(self) -> dict[str, str]:
        """Return the phase of each VM's instance, "" of one that has none."""
        vmis = {
            vmi["metadata"]["name"]: (vmi.get("status") or {}).get("phase", "")
            for vmi in await self.listed(VMIS, "default")
        }
        vms = await self.listed(VMS, "default")
        return {vm["metadata"]["name"]: vmis.get(vm["metadata"]["name"], "") for vm in vms}

    async def running(self) -> list[str]:
        """Return the VMs that run."""
        return [name for name, phase in (await self.phases()).items() if phase == "Running"]

    async def all_run(self, *names: str, within: float = 240.0) -> None:
        """Wait until VMs run."""

        async def run() -> bool:
            phases = await self.phases()
            return all(phases.get(name) == "Running" for name in names)

        await until(run, within=within, every=0.2)

    async def noted(self, *names: str, within: float = 120.0) -> None:
        """Wait until Harvester has noted what VMs that run have: else they will keep nothing."""

        async def told() -> bool:
            pods = await self.launchers()
            found = {vm["metadata"]["name"]: vm for vm in await self.listed(VMS, "default")}
            return all(set(allocated(found[name])) == self._objects(pods[name]) for name in names)

        await until(told, within=within, every=0.2)

    async def settled(self, *names: str, within: float = 300.0) -> None:
        """Wait until VMs run, but for those that find no room anywhere."""

        async def settled() -> bool:
            phases = await self.phases()
            waiting = {name for name in names if phases.get(name) != "Running"}
            launchers = (await self.launchers()).keys()
            return waiting <= launchers and not await missed(self)

        await until(settled, within=within, every=0.5)
        await self.quiet(within=within)

    async def empty(self, *names: str, within: float = 240.0) -> None:
        """Wait until no GPU of these nodes, or any, holds or is planned to hold anything.

        A place may be held for a VM that starts anew, which takes the extender two minutes.
        """

        async def nothing() -> bool:
            held = any(
                node.host.machine.gpu_instances(gpu) or node.host.kernel.vgpus()
                for name, node in self.nodes.items()
                if name in (names or self.nodes)
                for gpu in node.host.gpus.values()
            )
            plans = await self.gpu_nodes()
            return not held and not any(
                plan.spec.assignments for name, plan in plans.items() if name in (names or plans)
            )

        await until(nothing, within=within, every=0.3)

    async def gone(self, *names: str, within: float = 120.0) -> None:
        """Wait until VMs have no instance and no launcher."""

        async def none() -> bool:
            pods = await self.launchers()
            phases = await self.phases()
            return not any(name in pods or phases.get(name) for name in names)

        await until(none, within=within, every=0.2)

    async def launchers(self) -> dict[str, dict[str, Any]]:
        """Return the launcher of each VM."""
        return {
            pod["metadata"]["labels"]["vm.kubevirt.io/name"]: pod
            for pod in await self.listed(PODS, "default")
        }

    async def devices(self, name: str) -> list[str]:
        """Return the devices of a VM that runs, as its kubelet calls them."""
        pod = (await self.launchers())[name]
        node = self.nodes[pod["spec"]["nodeName"]]
        functions = node.launchers.devices(pod["metadata"]["uid"])
        vgpus = [node.host.vgpu(each) for each in functions]
        if self.version is Version.V1_8:
            return list(functions)
        return [vgpu.uuid for vgpu in vgpus if vgpu is not None]

    def _objects(self, pod: Mapping[str, Any]) -> set[str]:
        """Return the names of the VGPUDevices whose vGPUs a launcher's VM has open."""
        name = pod["spec"].get("nodeName", "")
        functions = self.nodes[name].launchers.devices(pod["metadata"]["uid"]) if name else ()
        return {device_name(name, each) for each in functions}

    async def place(self, name: str) -> Place:
        """Return where the one vGPU of a VM is."""
        pod = (await self.launchers())[name]
        node = self.nodes[pod["spec"]["nodeName"]]
        (function,) = node.launchers.devices(pod["metadata"]["uid"])
        return place(node.host, function)

    # -- questions ---------------------------------------------------------------------------------

    @property
    def refused(self) -> list[str]:
        """What Harvester's webhooks and kubelets have refused, and to whom."""
        return [_told(each) for each in self.log.of(deeds.REFUSED)]

    @property
    def unexcused(self) -> list[str]:
        """Those of them that no controller's end and no race explains."""
        return [_told(each) for each in unexcused(self.log.entries)]

    async def listed(self, kind: Kind, namespace: str = "") -> list[dict[str, Any]]:
        page = await self.api.list(kind, namespace=namespace, limit=10_000)
        return [dict(msgspec.json.decode(raw)) for raw in page.items]

    async def gpu_nodes(self) -> dict[str, GpuNode]:
        """Return the plan and inventory of each node; none where Tangram is not installed."""
        try:
            page = await self.api.list(GPU_NODES)
        except NotFound:
            return {}
        found = [gpunode.decode(raw) for raw in page.items]
        return {each.name: each for each in found}

    async def quiet(self, *, for_seconds: float = 2.2, within: float = 120.0) -> None:
        """Wait until neither pods nor GpuNodes nor GPUs change for longer than a scan takes."""
        last, since = "", 0.0
        loop = asyncio.get_running_loop()

        async def unchanged() -> bool:
            nonlocal last, since
            pods = sorted(
                (name, pod["spec"].get("nodeName", ""), pod["status"]["phase"])
                for name, pod in (await self.launchers()).items()
            )
            plans = [(n, g.metadata.generation) for n, g in (await self.gpu_nodes()).items()]
            gpus = [
                [node.host.machine.gpu_instances(gpu) for gpu in node.host.gpus.values()]
                for node in self.nodes.values()
            ]
            now = repr((pods, sorted(plans), gpus))
            if now != last:
                last, since = now, loop.time()
            return loop.time() - since >= for_seconds

        await until(unchanged, within=within, every=0.3)


def _told(refusal: Entry) -> str:
    return f"{refusal.actor}: {refusal.subject}: {refusal.detail}"
