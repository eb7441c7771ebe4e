"""What outlives the agents of a case: the GPU, the kernel's files, the kubelet, the API server."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence

import msgspec

from nodeagent.api import gpunode, keys
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Assignment, GpuNode, Mode, PodRef
from nodeagent.api.resources import of_profile, of_vgpu_type
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import GPU_NODES, NODES, PODS, PatchType
from tests.crash import door
from tests.crash.home import NODE, Home
from tests.fakes.kubelet import Container, FakeKubelet, Pod
from tests.fakes.nvml.capabilities import write_mig_minors
from tests.fakes.nvml.machine import GpuInstance, Machine
from tests.fakes.sysfs.kernel import Kernel, KernelVgpu
from tests.fakes.sysfs.tree import function_address

MODEL, GPU = "H100-80GB", 0
PROFILE, TYPE = 19, "NVIDIA H100XM-1-10C"
STRANGE_PROFILE, STRANGE_TYPE, STRANGE_PLACE = 9, "NVIDIA H100XM-3-40C", Placement(4, 4)
STRANGE_UUID = "00000000-0000-4000-8000-00000000000f"
FUNCTIONS, STRANGE_FUNCTION = 8, 8
PATIENCE_SECONDS = 20.0
"""So long something that must come is waited for; machines may be slow."""


class Foreign(msgspec.Struct, frozen=True):
    """What somebody else has on the GPU, as it was when the case began."""

    gpu_instance: GpuInstance
    vgpus: tuple[KernelVgpu, ...]


class Site:
    """A node with one GPU, on which somebody else has a GPU instance, in use or not.

    Nothing goes on that waits for the agent while ``going`` is not set; ``resting`` then tells that
    all else is done.
    """

    def __init__(self, home: Home, *, seed: int = 0) -> None:
        self.home = home
        self.mode = home.mode
        self.api = InMemoryApi()
        self.machine = Machine.create(
            home.library, home.machine, MODEL, vgpu_host=self.mode is not Mode.CONTAINER
        )
        boot_id = home.root / "proc/sys/kernel/random/boot_id"
        boot_id.parent.mkdir(parents=True)
        boot_id.write_text("boot-1\n")
        write_mig_minors(home.root)
        self.kernel = Kernel(self.machine)
        self.resource = of_profile("1g.10gb")
        if self.mode is not Mode.CONTAINER:
            self.kernel.enable_functions(GPU, FUNCTIONS)
            self.resource = of_vgpu_type(TYPE)[0]
        self.foreign = self._invade()
        self.kubelet = FakeKubelet(home.places, seed=seed)
        self.going = asyncio.Event()
        self.resting = asyncio.Event()

    def _invade(self) -> Foreign:
        gi_id = self.machine.create_gpu_instance(GPU, STRANGE_PROFILE, STRANGE_PLACE)
        if self.mode is Mode.CONTAINER:
            self.machine.create_compute_instance(GPU, gi_id)
        else:
            type_id = self.kernel.types(GPU)[STRANGE_TYPE]
            uuid = STRANGE_UUID if self.mode is Mode.VGPU_MDEV else ""
            self.kernel.create(GPU, STRANGE_FUNCTION, type_id, uuid)
        return Foreign(self.machine.gpu_instances(GPU)[0], tuple(self.kernel.vgpus()))

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Have a kubelet, an API server, the Node, and an empty plan."""
        await self.api.create(NODES, {"metadata": {"name": NODE}})
        head = {"apiVersion": keys.API_VERSION, "kind": keys.GPU_NODE_KIND}
        await self.api.create(GPU_NODES, {**head, "metadata": {"name": NODE}, "spec": {}})
        async with door.opened(self.api, self.home.door), self.kubelet.serving():
            yield

    # -- what the extender does --------------------------------------------------------------------

    def assignment(self, id: str, start: int, since: str, pod: PodRef) -> Assignment:
        """Return what is planned for *pod*."""
        gpu = self.machine.uuids[GPU]
        return Assignment(id, gpu, PROFILE, start, 1, self.resource, since, pod)

    async def plan(self, assignments: Sequence[Assignment]) -> None:
        """Replace the plan."""
        patch = [{"op": "add", "path": "/spec/assignments", "value": assignments}]
        await self.api.patch(GPU_NODES, NODE, patch, patch_type=PatchType.JSON)

    async def gpu_node(self) -> GpuNode:
        """Return the plan and the inventory."""
        return gpunode.decode(await self.api.get(GPU_NODES, NODE))

    # -- what users, the scheduler and the kubelet do with pods ------------------------------------

    async def create_pod(self, name: str) -> Pod:
        """Create a pod whose init container has the device before its only other container."""
        asking = {"resources": {"limits": {self.resource: "1"}}}
        body = {
            "metadata": {"name": name},
            "spec": {
                "initContainers": [{"name": "first", **asking}],
                "containers": [{"name": "compute", **asking}],
            },
        }
        made = msgspec.json.decode(await self.api.create(PODS, body, namespace="default"))
        limits = {self.resource: 1}
        return Pod(
            name,
            (Container("compute", limits),),
            init=(Container("first", limits),),
            namespace="default",
            uid=made["metadata"]["uid"],
        )

    async def bind(self, pod: Pod) -> None:
        """Bind a pod to the node."""
        binding = {"metadata": {"name": pod.name}, "target": {"name": NODE}}
        await self.api.create(
            PODS, binding, namespace="default", name=pod.name, subresource="binding"
        )

    async def fail(self, pod: Pod) -> None:
        """Say of a pod that it has failed; it stays there."""
        await self.api.patch(
            PODS,
            pod.name,
            {"status": {"phase": "Failed"}},
            patch_type=PatchType.MERGE,
            namespace="default",
            subresource="status",
        )

    def device_of(self, pod: Pod) -> str:
        """Return the id of the device that a pod's container finds now.

        Raises:
            LookupError: it finds none.
        """
        answers = [e.answer for e in self.kubelet.entries_of(pod) if e.container == "compute"]
        if len(answers) != 1:
            raise LookupError(f"the kubelet has {len(answers)} answers for pod {pod.name}")
        (answer,) = answers
        if self.mode is not Mode.CONTAINER:
            (variable,) = answer.envs.values()
            return str(variable)
        (device,) = answer.cdi_devices
        kind, _, slot = device.name.partition("=")
        for path in self.home.places.cdi.glob("*.json"):
            spec = json.loads(path.read_text())
            for each in spec["devices"]:
                if (spec["kind"], each["name"]) == (kind, slot):
                    (variable,) = each["containerEdits"]["env"]
                    return str(variable.partition("=")[2])
        raise LookupError(f"no CDI specification has {device.name}")

    def gpu_instance_of(self, device: str) -> GpuInstance:
        """Return the GPU instance behind a device.

        Raises:
            LookupError: there is none.
        """
        for each in self.machine.gpu_instances(GPU):
            computes = {
                self.machine.mig_uuid(GPU, each.gi_id, c.ci_id) for c in each.compute_instances
            }
            vgpus = {
                id
                for vgpu in self.kernel.vgpus()
                if vgpu.gi_id == each.gi_id
                for id in (vgpu.uuid, function_address(GPU, vgpu.function))
            }
            if device in (computes if self.mode is Mode.CONTAINER else vgpus):
                return each
        raise LookupError(f"there is no device {device}")

    def use(self, pod: Pod, device: str, opened: bool = True) -> None:
        """Let a pod open its device, or close it."""
        gi_id = self.gpu_instance_of(device).gi_id
        if self.mode is not Mode.CONTAINER:
            (vgpu,) = (each for each in self.kernel.vgpus() if each.gi_id == gi_id)
            self.kernel.open(GPU, vgpu.function, opened)
        elif opened:
            self.machine.open_client(GPU, gi_id, pod.name)
        else:
            self.machine.close_client(pod.name)
