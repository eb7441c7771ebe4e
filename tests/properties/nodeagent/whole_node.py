"""A whole node for properties: its agent as put together for real GPUs, and all that befalls it.

The GPUs, the kernel's files and the kubelet are fakes, which keep the rules of the real ones; the
API server is its twin. Whoever calls plays the extender, kube-scheduler, the users, and those who
were never asked. What must never be is an AssertionError, whenever it shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from nodeagent.api import gpunode, keys
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Assignment, GpuNode, Mode
from nodeagent.api.resources import of_profile, of_vgpu_type
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import GPU_NODES, NODES, PODS, PatchType
from nodeagent.deviceplugin import Places
from nodeagent.nvml import Location
from nodeagent.purview import Purview
from nodeagent.real_node import RealNode
from nodeagent.settings import Settings
from tests.fakes.kubelet import Container, FakeKubelet, NotAdmitted, Pod
from tests.fakes.nvml.capabilities import write_mig_minors
from tests.fakes.nvml.library import STATE_VARIABLE
from tests.fakes.nvml.machine import Machine, Refused
from tests.fakes.sysfs.kernel import Kernel
from tests.fakes.sysfs.tree import FakeSysfs, function_address
from tests.unit.deviceplugin.node import SOON

NODE, MODEL, GPUS = "n1", "H100-80GB", 2
SMALL, HALF, FOREIGN = 19, 9, 14
"""Profiles: those that pods ask for, and the one that others use. Nothing else is ever made."""
SIZES = {SMALL: 1, HALF: 4, FOREIGN: 2}
STARTS = {SMALL: range(7), HALF: (0, 4), FOREIGN: (0, 2, 4)}
NAMES = {SMALL: ("1g.10gb", "NVIDIA H100XM-1-10C"), HALF: ("3g.40gb", "NVIDIA H100XM-3-40C")}
FUNCTIONS = 16
EAGER = Settings(first_retry_seconds=0.01, longest_retry_seconds=0.05)
PATIENCE_SECONDS = 15.0
LOOK_SECONDS = 0.003

Place = tuple[int, int]
"""A GPU by its index, and where on it a GPU instance starts."""


class Vm(msgspec.Struct):
    """A pod (a VM's or a container) with its places; ``state`` is planned, running or over."""

    pod: Pod
    profile: int
    places: frozenset[Place]
    assignments: tuple[Assignment, ...]
    state: str = "planned"
    devices: frozenset[str] = frozenset()


class WholeNode:
    """The node in directory *root*, whose name is short, with the fake library at *library*."""

    def __init__(self, root: Path, library: Path, mode: Mode, *, seed: int = 0) -> None:
        self.mode = mode
        self.vms: dict[str, Vm] = {}
        self.foreign: dict[Place, int] = {}
        self.refusals = 0
        self._root = root
        self._library = library
        self._api = InMemoryApi()
        self._machine = Machine.create(
            library, root / "machine", MODEL, gpus=GPUS, vgpu_host=mode is not Mode.CONTAINER
        )
        self._machine.logging(False)
        self._kernel = Kernel(self._machine)
        if mode is not Mode.CONTAINER:
            for gpu in range(GPUS):
                self._kernel.enable_functions(gpu, FUNCTIONS)
        boot_id = root / "proc/sys/kernel/random/boot_id"
        boot_id.parent.mkdir(parents=True)
        boot_id.write_text("boot-1\n")
        write_mig_minors(root)
        self._places = Places(root / "plugins", root / "pod-resources.sock", root / "cdi")
        self._kubelet = FakeKubelet(self._places, seed=seed)
        self._agent: asyncio.Task[None] | None = None
        self._named = 0

    # -- the node's own life -----------------------------------------------------------------------

    async def start(self) -> None:
        """Have everything run."""
        os.environ[STATE_VARIABLE] = str(self._root / "machine")
        await self._api.create(NODES, {"metadata": {"name": NODE}})
        head = {"apiVersion": keys.API_VERSION, "kind": keys.GPU_NODE_KIND}
        await self._api.create(GPU_NODES, {**head, "metadata": {"name": NODE}, "spec": {}})
        await self._kubelet.start()
        self._agent = asyncio.create_task(self._run_agent(), name="agent")

    async def stop(self) -> None:
        """End everything."""
        await self._end_agent()
        await self._kubelet.stop()
        os.environ.pop(STATE_VARIABLE, None)
        self._machine.close()

    async def restart_agent(self) -> None:
        """End the agent as it is, and begin another."""
        await self._end_agent()
        self._agent = asyncio.create_task(self._run_agent(), name="agent")

    async def restart_kubelet(self) -> None:
        """End the kubelet, and begin another."""
        await self._kubelet.restart()

    async def pause(self, seconds: float) -> None:
        """Let everybody go on for a while."""
        await asyncio.sleep(seconds)
        assert self._agent is not None
        if self._agent.done():
            await self._agent

    async def _run_agent(self) -> None:
        parts = RealNode(
            nodes=(NODE,),
            mode=self.mode,
            state_dir=self._root / "agent",
            location=Location(self._library),
            host_root=self._root,
            places=self._places,
            timing=SOON,
            settings=EAGER,
            sysfs=lambda root: FakeSysfs(self._root, self._kernel, self.mode),
        )
        parts.check()
        ours = frozenset({self.resource(SMALL), self.resource(HALF)})
        async with parts.assembled(self._api, Purview(resources=ours)) as agents:
            await agents[0].run()

    async def _end_agent(self) -> None:
        if self._agent is not None:
            self._agent.cancel()
            await asyncio.wait([self._agent])
            if not self._agent.cancelled():
                await self._agent
            self._agent = None

    # -- the plan ----------------------------------------------------------------------------------

    def resource(self, profile: int) -> str:
        """Return what pods ask for to have a GPU instance of *profile*."""
        mig, vgpu = NAMES[profile]
        return of_profile(mig) if self.mode is Mode.CONTAINER else of_vgpu_type(vgpu)[0]

    def free(self, profile: int) -> Sequence[Place]:
        """Return where there is nothing, nor will be."""
        taken = [0] * GPUS
        for vm in self.vms.values():
            for each in vm.assignments:
                taken[self._machine.uuids.index(each.gpu)] |= each.placement.mask
        for gpu in range(GPUS):
            for instance in self._machine.gpu_instances(gpu):
                taken[gpu] |= instance.placement.mask
        return [
            (gpu, start)
            for gpu in range(GPUS)
            for start in STARTS[profile]
            if not Placement(start, SIZES[profile]).mask & taken[gpu]
        ]

    async def plan(self, profile: int, places: Collection[Place], init: Sequence[int]) -> None:
        """Plan a new pod at *places*, whose init containers ask for as many as *init* says."""
        self._named += 1
        name, resource = f"pod-{self._named}", self.resource(profile)
        pod = await self._created(name, resource, len(places), init)
        since = f"2026-01-01T00:00:00.{self._named:06}Z"
        assignments = tuple(
            Assignment(
                f"{name}/{number}",
                self._machine.uuids[gpu],
                profile,
                start,
                SIZES[profile],
                resource,
                since,
                pod.ref,
            )
            for number, (gpu, start) in enumerate(sorted(places))
        )
        self.vms[name] = Vm(pod, profile, frozenset(places), assignments)
        await self._write_plan()

    async def withdraw(self, name: str) -> None:
        """Take what is planned for a pod that does not run out of the plan."""
        vm = self.vms.pop(name)
        assert vm.state != "running"
        if vm.state == "planned":
            await self._api.delete(PODS, name, namespace="default", grace_seconds=0)
        await self._write_plan()

    async def realized(self, name: str) -> bool:
        """Tell whether a pod may be bound: it is realized, and the Node shows the resource."""
        vm = self.vms[name]
        told = {each.id for each in (await self._gpu_node()).status.realized}
        shown = self._kubelet.allocatable.get(self.resource(vm.profile), 0)
        return shown >= len(vm.places) and {each.id for each in vm.assignments} <= told

    # -- pods --------------------------------------------------------------------------------------

    async def run_pod(self, name: str, *, rejected: bool = False) -> bool:
        """Bind a realized pod and have it admitted; tell whether it was.

        Where it is *rejected*, it is so after its devices have been allocated.
        """
        vm = self.vms[name]
        await self._bind(name)
        try:
            given = await self._kubelet.admit(vm.pod, rejected=rejected)
        except NotAdmitted:
            self.refusals += 1
            await self._fail(name)
            vm.state = "over"
            return False
        for container, answers in given.items():
            devices = {id for answer in answers for id in self._ids(answer)}
            found = {self._place_of(id, vm.profile) for id in devices}
            whole = container == "main"
            assert found == vm.places if whole else found <= vm.places, (
                f"{name} was planned at {sorted(vm.places)}; {container} was given {found}"
            )
            if whole:
                vm.devices = frozenset(devices)
        vm.state = "running"
        self._open(vm, opened=True)
        return True

    async def end_pod(self, name: str, *, at_once: bool) -> None:
        """End a running pod; what is planned for it stays, or leaves the plan *at once*."""
        vm = self.vms[name]
        self._open(vm, opened=False)
        self._kubelet.end(vm.pod)
        await self._fail(name)
        vm.state = "over"
        if at_once:
            await self.withdraw(name)

    async def intrude(self, profile: int) -> None:
        """Have a pod come that nobody has planned: it must be refused."""
        self._named += 1
        name = f"thief-{self._named}"
        pod = await self._created(name, self.resource(profile), 1, ())
        await self._bind(name)
        try:
            given = await self._kubelet.admit(pod)
        except NotAdmitted:
            pass
        else:
            # Before any plugin has ever registered, a kubelet starts pods without devices.
            assert not [answer for answers in given.values() for answer in answers], (
                f"{name} was given {given}"
            )
            self._kubelet.end(pod)
        await self._fail(name)

    # -- others ------------------------------------------------------------------------------------

    def appear(self, place: Place) -> None:
        """Have a GPU instance of somebody else appear."""
        gpu, start = place
        with contextlib.suppress(Refused):  # ours was there first
            size = SIZES[FOREIGN]
            gi_id = self._machine.create_gpu_instance(gpu, FOREIGN, Placement(start, size))
            self.foreign[place] = gi_id

    def disappear(self, place: Place) -> None:
        """Have it go again."""
        self._machine.destroy_gpu_instance(place[0], self.foreign.pop(place))

    # -- what must hold ----------------------------------------------------------------------------

    def check(self) -> None:
        """Assert what holds at every moment."""
        for (gpu, start), gi_id in self.foreign.items():
            there = {each.gi_id: each.placement.start for each in self._machine.gpu_instances(gpu)}
            assert there.get(gi_id) == start, f"a foreign GPU instance has been touched: {there}"
        for name, vm in self.vms.items():
            if vm.state == "running":
                places = {self._place_of(id, vm.profile) for id in vm.devices}
                assert places == vm.places, f"{name} has lost its devices: {places}"
        for vgpu in self._kernel.vgpus():
            here = {each.gi_id for each in self._machine.gpu_instances(vgpu.gpu)}
            assert vgpu.gi_id in here, f"{vgpu} is without a GPU instance"

    async def settle(self) -> None:
        """Have every planned pod run; then there is what is planned and what others made, alone.

        Nobody disturbs the node now, so once it has come to rest every pod must be admitted.
        """
        await self._until_registered()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while waiting := [name for name, vm in self.vms.items() if vm.state == "planned"]:
                for name in waiting:
                    if await self.realized(name):
                        assert await self.run_pod(name), f"{name} was refused on a quiet node"
                await self.pause(LOOK_SECONDS)
            while (difference := self._difference()) or await self._behind():
                try:
                    await self.pause(LOOK_SECONDS)
                except asyncio.CancelledError as error:
                    raise AssertionError(f"not as planned, and stays so: {difference}") from error
        self.check()

    def _difference(self) -> str:
        """Say how what there is differs from what is planned and foreign."""
        there = {
            (gpu, each.placement.start, each.profile_id)
            for gpu in range(GPUS)
            for each in self._machine.gpu_instances(gpu)
        }
        wanted = {(*place, vm.profile) for vm in self.vms.values() for place in vm.places}
        wanted |= {(*place, FOREIGN) for place in self.foreign}
        return f"there are {there}, wanted {wanted}" if there != wanted else ""

    async def _behind(self) -> bool:
        """Tell whether the inventory is not of what there is, or not of the newest plan."""
        node = await self._gpu_node()
        told = {
            (n, each.start, each.profile_id)
            for n, gpu in enumerate(node.status.gpus)
            for each in gpu.instances
        }
        there = {
            (n, each.placement.start, each.profile_id)
            for n in range(GPUS)
            for each in self._machine.gpu_instances(n)
        }
        current = node.status.observed_generation >= node.metadata.generation
        assert not (current and told == there and node.status.failed), node.status.failed
        return told != there or not current

    async def _until_registered(self) -> None:
        """Wait until the kubelet of the moment has the lists of the agent of the moment."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            calm = 0
            while calm < 5:
                shown = self._kubelet.allocatable
                ready = all(shown.get(self.resource(each)) for each in (SMALL, HALF))
                ready = ready and self._kubelet.connected == {
                    self.resource(SMALL),
                    self.resource(HALF),
                }
                calm = calm + 1 if ready else 0
                await self.pause(SOON.poll_seconds)

    # -- how it is done ----------------------------------------------------------------------------

    async def _gpu_node(self) -> GpuNode:
        return gpunode.decode(await self._api.get(GPU_NODES, NODE))

    async def _write_plan(self) -> None:
        value = [each for vm in self.vms.values() for each in vm.assignments]
        patch = [{"op": "add", "path": "/spec/assignments", "value": value}]
        await self._api.patch(GPU_NODES, NODE, patch, patch_type=PatchType.JSON)

    async def _created(self, name: str, resource: str, count: int, init: Sequence[int]) -> Pod:
        containers = (Container("main", {resource: count}),)
        first = tuple(
            Container(f"init-{n}", {resource: asked} if asked else {})
            for n, asked in enumerate(init)
        )

        def body(each: Container) -> dict[str, Any]:
            limits = {resource: str(count) for resource, count in each.limits.items()}
            return {"name": each.name, "resources": {"limits": limits}}

        spec = {
            "initContainers": [body(each) for each in first],
            "containers": [body(each) for each in containers],
        }
        made = msgspec.json.decode(
            await self._api.create(
                PODS, {"metadata": {"name": name}, "spec": spec}, namespace="default"
            )
        )
        return Pod(name, containers, init=first, uid=made["metadata"]["uid"])

    async def _bind(self, name: str) -> None:
        binding = {"metadata": {"name": name}, "target": {"name": NODE}}
        await self._api.create(PODS, binding, namespace="default", name=name, subresource="binding")

    async def _fail(self, name: str) -> None:
        await self._api.patch(
            PODS,
            name,
            {"status": {"phase": "Failed"}},
            patch_type=PatchType.MERGE,
            namespace="default",
            subresource="status",
        )

    def _ids(self, answer: Any) -> Iterator[str]:
        """Yield the devices that a plugin's answer leads to."""
        for variable in answer.envs.values():
            yield from variable.split(",")
        for device in answer.cdi_devices:
            kind, _, slot = device.name.partition("=")
            spec = json.loads(next(self._places.cdi.glob("*.json")).read_text())
            assert spec["kind"] == kind
            (found,) = (each for each in spec["devices"] if each["name"] == slot)
            (variable,) = found["containerEdits"]["env"]
            yield variable.partition("=")[2]

    def _place_of(self, device: str, profile: int) -> Place | None:
        """Return where a device is, None if there is none or it is not of *profile*."""
        found = self._behind_device(device)
        if found is None:
            return None
        gpu, gi_id = found
        for each in self._machine.gpu_instances(gpu):
            if (each.gi_id, each.profile_id) == (gi_id, profile):
                return gpu, each.placement.start
        return None

    def _behind_device(self, device: str) -> tuple[int, int] | None:
        if self.mode is not Mode.CONTAINER:
            for vgpu in self._kernel.vgpus():
                if device in (vgpu.uuid, function_address(vgpu.gpu, vgpu.function)):
                    return vgpu.gpu, vgpu.gi_id
            return None
        for gpu in range(GPUS):
            for each in self._machine.gpu_instances(gpu):
                for compute in each.compute_instances:
                    if self._machine.mig_uuid(gpu, each.gi_id, compute.ci_id) == device:
                        return gpu, each.gi_id
        return None

    def _open(self, vm: Vm, *, opened: bool) -> None:
        """Let a pod open its devices, or close them."""
        if self.mode is not Mode.CONTAINER:
            for vgpu in self._kernel.vgpus():
                if {vgpu.uuid, function_address(vgpu.gpu, vgpu.function)} & vm.devices:
                    self._kernel.open(vgpu.gpu, vgpu.function, opened)
        elif not opened:
            self._machine.close_client(vm.pod.name)
        else:
            for device in vm.devices:
                found = self._behind_device(device)
                assert found is not None
                self._machine.open_client(*found, vm.pod.name)
