"""A Harvester cluster of one node in which VMs run: controller, KubeVirt, kubelet, plugins."""

from __future__ import annotations

from typing import Any

import msgspec

from nodeagent.api.geometry import Placement
from nodeagent.apiserver.protocol import NODES, PODS, Kind, PatchType
from nodeagent.deviceplugin.places import Places
from tests.fakes.kubelet import FakeKubelet
from tests.fakes.kubevirt import KubeVirt, LauncherNode, virtual_machine
from tests.fakes.nvml.machine import Machine
from tests.fakes.pcidevices.names import (
    ALLOCATION,
    MIG_CONFIGURATIONS,
    SRIOV_GPUS,
    VGPUS,
    VMIS,
    VMS,
)
from tests.fakes.pcidevices.plugin import ServedPlugins
from tests.fakes.pcidevices.site import Cluster, Site
from tests.waiting import until

TYPE, RESOURCE = "NVIDIA A100X-1-5C", "nvidia.com/NVIDIA_A100X-1-5C"
GPU = "node-1-000010000"


class House:
    """The node is ``node-1``; the test schedules, by :meth:`bind`."""

    def __init__(self, cluster: Cluster, machine: Machine, places: Places) -> None:
        self.cluster = cluster
        self.user = cluster.client("admin")
        self.kubevirt = KubeVirt(cluster.client("kubevirt"))
        self.kubelet = FakeKubelet(places)
        self.plugins = ServedPlugins(places, cluster.version)
        self.site = Site(
            cluster,
            "node-1",
            machine,
            plugins=self.plugins,
            environment=lambda uid: self.node.environment(uid),
        )
        self.node = LauncherNode(cluster.client("kubelet"), self.site.host, self.kubelet)

    async def begin(self) -> None:
        await self.cluster.prepare("node-1")
        await self.site.work()
        await self.change(SRIOV_GPUS, GPU, enabled=True)
        await self.site.pass_(30)
        await self.change(MIG_CONFIGURATIONS, GPU, enabled=True)
        await self.site.work()

    async def work(self) -> None:
        """Let everybody do what follows from what has happened."""
        for _ in range(6):
            await self.kubevirt.work()
            await self.node.work()
            await self.site.work()

    async def device(self, name: str, start: int = 0) -> None:
        """Bring it about that the kubelet has one device more to hand out."""
        before = self.kubelet.allocatable.get(RESOURCE, 0)
        self.site.host.machine.create_gpu_instance(0, 19, Placement(start, 1))
        await self.site.pass_(30)
        await self.change(VGPUS, name, enabled=True, vGPUTypeName=TYPE)
        await self.site.work()
        await until(lambda: self.kubelet.allocatable.get(RESOURCE, 0) == before + 1)
        await self.node.advertise()

    async def create(self, name: str, *devices: str, **options: Any) -> None:
        vm = virtual_machine(name, *(devices or (RESOURCE,)), **options)
        await self.user.create(VMS, vm, namespace="default")

    async def bind(self, name: str) -> None:
        """Schedule a VM's launcher."""
        pod = await self.pod(name)
        body = {"metadata": {"name": pod["metadata"]["name"]}, "target": {"name": "node-1"}}
        await self.cluster.api.create(
            PODS, body, namespace="default", name=pod["metadata"]["name"], subresource="binding"
        )

    async def change(self, kind: Kind, name: str, namespace: str = "", **spec: Any) -> None:
        await self.user.patch(
            kind, name, {"spec": spec}, patch_type=PatchType.MERGE, namespace=namespace
        )

    async def run(self, name: str, strategy: str) -> None:
        """Have a VM stopped ("Halted"), or run ("Always")."""
        await self.change(VMS, name, "default", runStrategy=strategy)
        await self.work()

    async def pods(self) -> list[dict[str, Any]]:
        page = await self.cluster.api.list(PODS)
        return [msgspec.json.decode(raw) for raw in page.items]

    async def pod(self, name: str) -> dict[str, Any]:
        (pod,) = [
            pod
            for pod in await self.pods()
            if pod["metadata"]["labels"]["vm.kubevirt.io/name"] == name
        ]
        return pod

    async def vmi(self, name: str) -> dict[str, Any]:
        return await self._get(VMIS, name)

    async def vm(self, name: str) -> dict[str, Any]:
        return await self._get(VMS, name)

    async def allocation(self, name: str) -> Any:
        annotations = (await self.vm(name))["metadata"].get("annotations") or {}
        return msgspec.json.decode(annotations[ALLOCATION]) if ALLOCATION in annotations else None

    async def allocatable(self) -> dict[str, str]:
        raw = await self.cluster.api.get(NODES, "node-1")
        return dict(msgspec.json.decode(raw)["status"]["allocatable"])

    async def _get(self, kind: Kind, name: str) -> dict[str, Any]:
        return dict(
            msgspec.json.decode(await self.cluster.api.get(kind, name, namespace="default"))
        )
