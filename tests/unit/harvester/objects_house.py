"""Harvester's objects behind an API server, and who follows them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import VIRTUAL_MACHINES, Kind, PatchType
from nodeagent.driver import DriverError
from nodeagent.harvester.door import ClusterObjects
from nodeagent.harvester.objects import (
    MIG_CONFIGURATIONS,
    SRIOV_GPU_DEVICES,
    VGPU_DEVICES,
)
from nodeagent.harvester.wire import ALLOCATION_ANNOTATION
from tests.waiting import until

KINDS = (SRIOV_GPU_DEVICES, VGPU_DEVICES, MIG_CONFIGURATIONS, VIRTUAL_MACHINES)
FIRST = "n1-000010004"
TYPE = "NVIDIA A100-1-5C"
RESOURCE = "nvidia.com/NVIDIA_A100-1-5C"


class House:
    """An API server with Harvester's kinds, and what the agent knows of it."""

    def __init__(self) -> None:
        self.api = InMemoryApi()
        for kind in KINDS:
            self.api.register(kind)
        self.objects = ClusterObjects(self.api, "n1", timeout=5.0)
        self.changes = 0

    @contextlib.asynccontextmanager
    async def followed(self) -> AsyncIterator[ClusterObjects]:
        def changed() -> None:
            self.changes += 1

        task = asyncio.create_task(self.objects.follow(changed))
        try:
            await until(self.known)
            yield self.objects
        finally:
            task.cancel()
            await asyncio.wait([task])

    def known(self) -> bool:
        with contextlib.suppress(DriverError):
            self.objects.now()
            return True
        return False

    async def vgpu(self, name: str = FIRST, node: str = "n1", **spec: Any) -> None:
        body = {
            "metadata": {"name": name, "labels": {"nodename": node}},
            "spec": {
                "address": "0000:10:00.4",
                "nodeName": node,
                "parentGPUDeviceAddress": "0000:10:00.0",
                "enabled": False,
                **spec,
            },
        }
        await self.api.create(VGPU_DEVICES, body)

    async def mig(self, name: str, node: str, *requested: int) -> None:
        profiles = [{"name": "MIG 1g.5gb", "id": 19, "requested": each} for each in requested]
        spec = {"nodeName": node, "gpuAddress": "0000:10:00.0", "profileSpec": profiles}
        body = {"metadata": {"name": name}, "spec": spec}
        await self.api.create(MIG_CONFIGURATIONS, body)

    async def vm(self, name: str, allocation: str | None, *asks: str, **devices: Any) -> None:
        """Create a VM that *asks* for GPUs by these resources, or has *devices* of its own kind."""
        annotations = {} if allocation is None else {ALLOCATION_ANNOTATION: allocation}
        asked = {"gpus": [{"name": "gpu", "deviceName": each} for each in asks], **devices}
        body = {
            "metadata": {"name": name, "annotations": annotations},
            "spec": {"template": {"spec": {"domain": {"devices": asked}}}},
        }
        await self.api.create(VIRTUAL_MACHINES, body, namespace="default")

    async def change(self, kind: Kind, name: str, patch: dict[str, Any], **options: Any) -> None:
        await self.api.patch(kind, name, patch, patch_type=PatchType.MERGE, **options)

    async def read(self, kind: Kind, name: str) -> dict[str, Any]:
        return dict(msgspec.json.decode(await self.api.get(kind, name)))
