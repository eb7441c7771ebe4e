"""A node with fake GPUs, fake kernel files and a fake kubelet, and its agent as it really is."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

from nodeagent.api.gpunode import Assignment, Mode, PodRef
from nodeagent.api.resources import of_profile, of_vgpu_type
from nodeagent.apiserver.protocol import ApiServer
from nodeagent.deviceplugin import Places
from nodeagent.nvml import Location
from nodeagent.purview import Purview
from nodeagent.real_node import RealNode
from tests.fakes.kubelet import Container, FakeKubelet, Pod
from tests.fakes.sysfs.kernel import Kernel
from tests.fakes.sysfs.tree import FakeSysfs, function_address
from tests.unit.deviceplugin.node import SOON
from tests.unit.nodeagent.station import NAME, Station
from tests.unit.nvml.node import Node
from tests.waiting import until

ONE, FOREIGN = 19, 9


class RealStation(Station):
    """A node with one fake H100, a fake kubelet, and the API server's twin."""

    def __init__(self, directory: Path, places: Places, mode: Mode) -> None:
        super().__init__()
        self.mode = mode
        self.directory = directory
        self.fakes = Node(directory, "H100-80GB", mode=mode)
        self.kernel = Kernel(self.fakes.machine)
        if mode is not Mode.CONTAINER:
            self.kernel.enable_functions(0, 8)
        self.places = places
        self.kubelet = FakeKubelet(places)
        self.resource = (
            of_profile("1g.10gb")
            if mode is Mode.CONTAINER
            else of_vgpu_type("NVIDIA H100XM-1-10C")[0]
        )

    @property
    def real_gpu(self) -> str:
        return self.fakes.machine.uuids[0]

    @property
    def agents_api(self) -> ApiServer:
        """The API server as the agent is known to it."""
        return self.api

    def assignment(self, id: str, start: int, pod: PodRef) -> Assignment:
        since = "2026-01-01T00:00:00Z"
        return Assignment(id, self.real_gpu, ONE, start, 1, self.resource, since, pod)

    async def create_vm(self, name: str) -> Pod:
        ref = await self.create_pod(name, {self.resource: 1})
        return Pod(
            name, (Container("compute", {self.resource: 1}),), namespace="default", uid=ref.uid
        )

    @contextlib.asynccontextmanager
    async def real_agent(self) -> AsyncIterator[None]:
        """Run the agent until the block ends."""
        parts = RealNode(
            nodes=(NAME,),
            mode=self.mode,
            state_dir=self.directory / "agent",
            location=Location(self.fakes.library),
            host_root=self.fakes.root,
            places=self.places,
            timing=SOON,
            sysfs=lambda root: FakeSysfs(self.directory, self.kernel, self.mode),
        )
        parts.check()
        async with parts.assembled(self.agents_api, Purview()) as agents:
            task = asyncio.create_task(agents[0].run())
            try:
                yield
            finally:
                task.cancel()
                await asyncio.wait([task])

    async def admitted(self, pod: Pod) -> str:
        """Have the kubelet admit *pod*, and return the id of the device it was given."""
        # As a scheduler would: only where the Node shows the resource.
        await until(lambda: self.kubelet.allocatable.get(self.resource))
        ((answer,),) = (await self.kubelet.admit(pod)).values()
        if self.mode is not Mode.CONTAINER:
            (variable,) = answer.envs.values()
            return variable
        (device,) = answer.cdi_devices
        kind, _, slot = device.name.partition("=")
        for path in self.places.cdi.iterdir():
            spec = json.loads(path.read_text())
            for each in spec["devices"]:
                if (spec["kind"], each["name"]) == (kind, slot):
                    (env,) = each["containerEdits"]["env"]
                    return str(env.partition("=")[2])
        raise AssertionError(f"no CDI specification has {device.name}")

    def start_of(self, device: str) -> int:
        """Return where on the GPU the GPU instance behind a device sits."""
        starts = {i.gi_id: i.placement.start for i in self.fakes.machine.gpu_instances(0)}
        if self.mode is Mode.CONTAINER:
            mig = self.fakes.machine.mig_uuid
            (found,) = (
                each.gi_id
                for each in self.fakes.machine.gpu_instances(0)
                for compute in each.compute_instances
                if mig(0, each.gi_id, compute.ci_id) == device
            )
            return starts[found]
        (found,) = (
            vgpu.gi_id
            for vgpu in self.kernel.vgpus()
            if device in (vgpu.uuid, function_address(0, vgpu.function))
        )
        return starts[found]
