"""A node of a Harvester cluster, as an administrator and as an agent handle it."""

from __future__ import annotations

from typing import Any

import msgspec

from nodeagent.api.geometry import Placement
from nodeagent.apiserver.protocol import Kind, NotFound, PatchType
from tests.fakes.nvml.machine import Machine
from tests.fakes.pcidevices.log import Entry
from tests.fakes.pcidevices.names import (
    ALLOCATION,
    MIG_CONFIGURATIONS,
    SRIOV_GPUS,
    VGPUS,
    VMS,
    Version,
)
from tests.fakes.pcidevices.site import Cluster, Site

SMALL, BIG = "NVIDIA A100X-1-5C", "NVIDIA A100X-3-20C"
"""Types of the A100's smallest profile (id 19), and of that with three slices (9)."""
GPU = "node-1-000010000"
FIRST, SECOND = "node-1-000010004", "node-1-000010005"
"""The objects of the GPU, and of its first two virtual functions."""
FIRST_ADDRESS = "0000:10:00.4"
SMALL_RESOURCE = "nvidia.com/NVIDIA_A100X-1-5C"


class Node(Site):
    """The node ``node-1``; ``user`` is the API server as an administrator finds it."""

    def __init__(self, cluster: Cluster, machine: Machine) -> None:
        super().__init__(cluster, "node-1", machine)
        self.user = cluster.client("admin")

    @property
    def machine(self) -> Machine:
        return self.host.machine

    @property
    def deeds(self) -> list[Entry]:
        return [each for each in self.cluster.log.entries if each.action != "write"]

    async def begin(self, *, neutral: bool = True) -> None:
        """Let the node be found, and its GPU enabled; *neutral* enables MigConfiguration too."""
        await self.cluster.prepare("node-1")
        await self.work()
        await self.change(SRIOV_GPUS, GPU, enabled=True)
        await self.pass_(30)
        if neutral:
            await self.change(MIG_CONFIGURATIONS, GPU, enabled=True)
            await self.pass_(0)

    async def get(self, kind: Kind, name: str, namespace: str = "") -> dict[str, Any]:
        raw = await self.cluster.api.get(kind, name, namespace=namespace)
        return dict(msgspec.json.decode(raw))

    async def exists(self, kind: Kind, name: str) -> bool:
        try:
            await self.get(kind, name)
        except NotFound:
            return False
        return True

    async def status(self, kind: Kind, name: str) -> dict[str, Any]:
        return dict((await self.get(kind, name)).get("status") or {})

    async def change(self, kind: Kind, name: str, **spec: Any) -> None:
        """Change members of an object's spec, as the user does."""
        await self.user.patch(kind, name, {"spec": spec}, patch_type=PatchType.MERGE)

    async def enable(self, name: str = FIRST, kind: str = SMALL) -> None:
        await self.change(VGPUS, name, enabled=True, vGPUTypeName=kind)

    async def touch(self, name: str) -> None:
        """Change nothing that means anything in a VGPUDevice."""
        patch = {"metadata": {"annotations": {"touched": str(self.cluster.now)}}}
        await self.user.patch(VGPUS, name, patch, patch_type=PatchType.MERGE)

    def cut(self, profile_id: int = 19, start: int = 0) -> int:
        """Make a GPU instance, as an agent does through NVML."""
        return self.machine.create_gpu_instance(
            0, profile_id, Placement(start, {19: 1, 14: 2, 9: 4}[profile_id])
        )

    async def made(self, name: str = FIRST) -> None:
        """Bring it about that a VGPUDevice has a vGPU of the small type."""
        self.cut()
        await self.touch(name)
        await self.work()
        await self.enable(name)
        await self.work()

    async def vm_keeps(self, device: str, name: str = "vm-1") -> None:
        """Create a VirtualMachine that has, or had, a device."""
        member = "gpus" if self.cluster.version is Version.V1_7 else "hostdevices"
        details = msgspec.json.encode({member: {SMALL_RESOURCE: [device]}}).decode()
        body = {
            "metadata": {"name": name, "annotations": {ALLOCATION: details}},
            "spec": {"template": {"spec": {"domain": {"devices": {}}}}},
        }
        await self.user.create(VMS, body, namespace="default")
