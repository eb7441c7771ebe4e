"""A Harvester node with fake GPUs, its controller, KubeVirt and kubelet; and Tangram's agent."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import inspect
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from nodeagent.api import gpunode, keys
from nodeagent.api.gpunode import Assignment, GpuNode, Inventory, Mode, OwnerRef, PodRef
from nodeagent.apiserver.protocol import GPU_NODES, PODS, ApiServer, PatchType
from nodeagent.deviceplugin import Places, Timing
from nodeagent.harvester.wire import VMI_KIND
from nodeagent.nvml import Location
from nodeagent.purview import Purview
from nodeagent.real_node import RealNode
from nodeagent.settings import Settings
from tests.fakes.nvml.library import STATE_VARIABLE
from tests.fakes.nvml.machine import Machine
from tests.fakes.pcidevices.names import (
    KUBEVIRT,
    KUBEVIRT_NAMESPACE,
    KUBEVIRTS,
    PCI_DEVICES,
    VGPUS,
    VMS,
    Version,
    device_name,
    resource_name,
)
from tests.fakes.pcidevices.site import Cluster
from tests.fakes.sysfs.tree import FakeSysfs
from tests.unit.kubevirt_fake.house import House

NAME = "node-1"
SMALL, BIG = 19, 9
"""Profiles 1g.5gb and 3g.20gb of an A100-40GB."""
KINDS = {SMALL: "NVIDIA A100X-1-5C", BIG: "NVIDIA A100X-3-20C"}
SIZES = {SMALL: 1, BIG: 4}
SOON = Timing(poll_seconds=0.01, audit_seconds=0.05, quiet_seconds=0.01, settle_seconds=0.2)
EAGER = Settings(first_retry_seconds=0.001, longest_retry_seconds=0.05)
STEP_SECONDS = 0.25
"""How much of Harvester's time passes each time that somebody looks."""


class Station(House):
    """The house, in which the test is the extender; :meth:`agent` is one life of the agent."""

    def __init__(self, cluster: Cluster, machine: Machine, places: Places, directory: Path) -> None:
        super().__init__(cluster, machine, places)
        self.directory = directory
        self.machine = machine
        self.places = places
        boot = directory / "proc/sys/kernel/random/boot_id"
        boot.parent.mkdir(parents=True, exist_ok=True)
        boot.write_text("boot-1\n")
        self._boot = boot
        os.environ[STATE_VARIABLE] = str(machine.state)
        self.location = Location(machine.library)
        self.sysfs: FakeSysfs | None = None
        self.ending: type[Exception] = LookupError
        """What the controller raises as it ends; another takes over."""

    @property
    def version(self) -> Version:
        return self.cluster.version

    async def begin(self) -> None:
        """Have a node as Harvester has it, and what every VM needs to be accepted at all."""
        await self.cluster.prepare(NAME)
        await self.site.work()
        await self.permit()
        head = {"apiVersion": keys.API_VERSION, "kind": keys.GPU_NODE_KIND}
        await self.cluster.api.create(GPU_NODES, {**head, "metadata": {"name": NAME}, "spec": {}})

    async def permit(self) -> None:
        """Have Harvester and KubeVirt know the types, though no GPU instance is spent on them."""
        devices = []
        for number, kind in enumerate(KINDS.values()):
            made = {"metadata": {"name": f"type-{number}"}, "spec": {}}
            status = {"configureVGPUTypeName": kind, "resourceName": resource_name(kind)}
            known = VGPUS if self.version is Version.V1_7 else PCI_DEVICES
            await self.cluster.api.create(known, made)
            await self.cluster.api.patch(
                known,
                f"type-{number}",
                {"status": status},
                patch_type=PatchType.MERGE,
                subresource="status",
            )
            devices.append({"resourceName": resource_name(kind), "externalResourceProvider": True})
        member = "mediatedDevices" if self.version is Version.V1_7 else "pciHostDevices"
        spec = {"configuration": {"permittedHostDevices": {member: devices}}}
        await self.change(KUBEVIRTS, KUBEVIRT, KUBEVIRT_NAMESPACE, **spec)

    async def close(self) -> None:
        await self.plugins.close()
        library = ctypes.CDLL(str(self.machine.library))
        while library.nvmlShutdown() == 0:
            pass
        os.environ.pop(STATE_VARIABLE, None)

    # -- the agent ---------------------------------------------------------------------------------

    def parts(self, **options: Any) -> RealNode:
        """Return what the agent is made of."""
        self.sysfs = FakeSysfs(
            self.directory,
            self.site.host.kernel,
            Mode.VGPU_MDEV if self.version is Version.V1_7 else Mode.VGPU_VFIO,
        )
        sysfs = self.sysfs
        parts = RealNode(
            nodes=(NAME,),
            mode=Mode.HARVESTER,
            state_dir=self.directory / "agent",
            location=self.location,
            host_root=self.directory,
            places=self.places,
            timing=SOON,
            settings=EAGER,
            sysfs=lambda root: sysfs,
            **options,
        )
        parts.check()
        return parts

    @contextlib.asynccontextmanager
    async def agent(
        self,
        *,
        all_gpus: bool = True,
        api: ApiServer | None = None,
        functions: bool = True,
    ) -> AsyncIterator[asyncio.Task[None]]:
        """Run the agent until the block ends."""
        parts = self.parts(enable_sriov=functions)
        client = api or self.cluster.client("agent")
        async with parts.assembled(client, Purview(all_gpus=all_gpus)) as (agent,):
            task = asyncio.create_task(agent.run(), name="agent")
            try:
                yield task
            finally:
                task.cancel()
                await asyncio.wait([task])

    # -- what the extender does --------------------------------------------------------------------

    async def gpu_node(self) -> GpuNode:
        return gpunode.decode(await self.cluster.api.get(GPU_NODES, NAME))

    async def status(self) -> Inventory:
        return (await self.gpu_node()).status

    async def plan(self, *assignments: Assignment) -> None:
        """Replace the plan."""
        patch = [{"op": "add", "path": "/spec/assignments", "value": assignments}]
        await self.cluster.api.patch(GPU_NODES, NAME, patch, patch_type=PatchType.JSON)

    async def choose_gpus(self, which: str) -> None:
        patch = {"metadata": {"annotations": {keys.GPUS_ANNOTATION: which}}}
        await self.cluster.api.patch(GPU_NODES, NAME, patch, patch_type=PatchType.MERGE)

    def assignment(
        self, id: str, pod: PodRef, start: int, profile: int = SMALL, *, gpu: int = 0, at: int = 0
    ) -> Assignment:
        return Assignment(
            id=id,
            gpu=self.machine.uuids[gpu],
            profile_id=profile,
            start=start,
            size=SIZES[profile],
            resource=resource_name(KINDS[profile]),
            since=f"2026-01-01T00:00:{at:02}Z",
            pod=pod,
            owner=OwnerRef(VMI_KIND, pod.namespace, pod.name),
        )

    # -- VMs ---------------------------------------------------------------------------------------

    def resource(self, profile: int) -> str:
        return resource_name(KINDS[profile])

    async def vm_of(self, name: str, profile: int = SMALL, count: int = 1) -> PodRef:
        """Create a VM and return its launcher, which nobody has bound yet."""
        await self.create(name, *[resource_name(KINDS[profile])] * count)
        return await self.launcher_of(name)

    async def launcher_of(self, name: str) -> PodRef:
        await self.work()
        metadata = (await self.pod(name))["metadata"]
        return PodRef(metadata["namespace"], metadata["name"], metadata["uid"])

    async def start(self, name: str) -> PodRef:
        await self.run(name, "Always")
        return await self.launcher_of(name)

    async def stop(self, name: str) -> None:
        await self.run(name, "Halted")
        await self.work()

    async def remove(self, name: str) -> None:
        """Delete a VM, and with it what it keeps."""
        await self.cluster.api.delete(VMS, name, namespace="default")
        await self.work()

    async def phase(self, name: str) -> str:
        pods = [
            pod
            for pod in await self.launchers()
            if pod["metadata"]["labels"]["vm.kubevirt.io/name"] == name
        ]
        return pods[-1]["status"]["phase"] if pods else ""

    async def running(self, *names: str) -> None:
        """Bind VMs' launchers, and wait until they run and Harvester has noted what they have."""
        for name in names:
            await self.bind(name)

        async def all_run() -> bool:
            return all(
                [await self.phase(name) == "Running" and await self.noted(name) for name in names]
            )

        await self.until(all_run)

    async def noted(self, name: str) -> bool:
        """Tell whether a VM's annotation names what its launcher has."""
        uid = (await self.pod(name))["metadata"]["uid"]
        details = await self.allocation(name) or {}
        noted = {
            device for kind in details.values() for devices in kind.values() for device in devices
        }
        return noted == {device_name(NAME, address) for address in self.node.devices(uid)}

    def places_of(self, uid: str) -> list[tuple[int, int]]:
        """Return the GPU and the start of each GPU instance that a launcher's VM has open."""
        found = []
        for address in self.node.devices(uid):
            vgpu = self.site.host.vgpu(address)
            assert vgpu is not None
            instances = {it.gi_id: it for it in self.machine.gpu_instances(vgpu.gpu)}
            found.append((vgpu.gpu, instances[vgpu.gi_id].placement.start))
        return found

    async def reboot(self) -> None:
        """Reboot the node, while no agent runs: a new one begins with it."""
        self.node.reboot()
        await self.plugins.close()
        self.site.restart()
        self._boot.write_text("boot-2\n")

    # -- waiting -----------------------------------------------------------------------------------

    async def until(
        self, holds: Callable[[], Awaitable[bool] | bool], *, within: float = 20.0
    ) -> None:
        """Let everybody work, and Harvester's time pass, until *holds*."""
        async with asyncio.timeout(within):
            while True:
                held = holds()
                if await held if inspect.isawaitable(held) else held:
                    return
                await self.turn()
                await asyncio.sleep(0.002)

    async def work(self) -> None:
        """Let everybody do what follows from what has happened."""
        for _ in range(6):
            await self.turn()

    async def turn(self) -> None:
        """Let everybody work once, and a moment of Harvester's time pass."""
        await self.kubevirt.work()
        await self.node.work()
        await self._let_pass(STEP_SECONDS)

    async def pass_(self, seconds: float) -> None:
        """Let so much of Harvester's time pass, though a controller may end meanwhile."""
        until = self.cluster.now + seconds
        while self.cluster.now < until:
            await self._let_pass(until - self.cluster.now)

    async def _let_pass(self, seconds: float) -> None:
        """Let time pass, or as much of it as the controller lives to see."""
        try:
            await self.site.pass_(seconds)
        except self.ending:
            await self.plugins.close()  # they are of the controller's process
            self.site.restart()

    def host_is_whole(self) -> bool:
        """Tell whether every GPU has all its virtual functions."""
        return not self.site.host.unplugged

    async def until_told(self, holds: Callable[[Inventory], bool], **options: float) -> Inventory:
        """Wait until the inventory is such, and return it."""

        async def told() -> bool:
            return holds(await self.status())

        await self.until(told, **options)
        return await self.status()

    async def until_realized(self, *ids: str) -> Inventory:
        return await self.until_told(lambda it: {each.id for each in it.realized} == set(ids))

    async def ready(self) -> Inventory:
        """Wait until the GPU takes GPU instances."""
        return await self.until_told(
            lambda it: bool(it.gpus) and not any(gpu.unhealthy for gpu in it.gpus)
        )

    def starts(self, gpu: int = 0) -> Sequence[int]:
        """Return where GPU instances start on a GPU."""
        return sorted(each.placement.start for each in self.machine.gpu_instances(gpu))

    async def objects(self) -> dict[str, Any]:
        """Return every VGPUDevice of the node, by name."""
        page = await self.cluster.api.list(VGPUS, label_selector=f"nodename={NAME}")
        values = [msgspec.json.decode(raw) for raw in page.items]
        return {each["metadata"]["name"]: each for each in values}

    async def enabled(self) -> list[str]:
        return [name for name, it in (await self.objects()).items() if it["spec"]["enabled"]]

    async def pods(self) -> list[dict[str, Any]]:
        """Return the launchers, and no other pods."""
        return await self.launchers()

    async def launchers(self) -> list[dict[str, Any]]:
        page = await self.cluster.api.list(PODS, namespace="default")
        return [msgspec.json.decode(raw) for raw in page.items]
