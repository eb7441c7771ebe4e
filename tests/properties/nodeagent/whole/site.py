"""A node and what outlives its agents: GPUs, the kernel's files, a kubelet, the API server's twin.

The agent is what ``tangram-agent run`` puts together; the rest are fakes that keep the rules of the
real ones.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from nodeagent.api import gpunode, keys
from nodeagent.api.gpunode import Assignment, GpuNode, Mode
from nodeagent.api.resources import of_profile, of_vgpu_type
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import GPU_NODES, NODES, PatchType
from nodeagent.deviceplugin import Places, Timing
from nodeagent.nvml import Location
from nodeagent.purview import Purview
from nodeagent.real_node import RealNode
from nodeagent.settings import Settings
from tests.fakes.kubelet import FakeKubelet
from tests.fakes.nvml.capabilities import write_mig_minors
from tests.fakes.nvml.library import STATE_VARIABLE
from tests.fakes.nvml.machine import Machine
from tests.fakes.sysfs.kernel import Kernel
from tests.fakes.sysfs.tree import FakeSysfs

NODE, MODEL, GPUS = "n1", "H100-80GB", 2
FUNCTIONS = 7
SETTINGS = Settings(rescan_seconds=0.25, first_retry_seconds=0.01, longest_retry_seconds=0.05)
TIMING = Timing(poll_seconds=0.02, audit_seconds=0.2, settle_seconds=0.5, quiet_seconds=0.05)
PATIENCE_SECONDS = 60.0
"""So long something that must come is waited for; machines may be slow."""
LOOK_SECONDS = 0.002


class Profile(msgspec.Struct, frozen=True):
    """A profile, where its GPU instances may start, and what pods ask for to have one."""

    id: int
    size: int
    starts: tuple[int, ...]
    mig: str
    vgpu: str

    def resource(self, mode: Mode) -> str:
        return of_profile(self.mig) if mode is Mode.CONTAINER else of_vgpu_type(self.vgpu)[0]


SMALL = Profile(19, 1, tuple(range(7)), "1g.10gb", "NVIDIA H100XM-1-10C")
HALF = Profile(9, 4, (0, 4), "3g.40gb", "NVIDIA H100XM-3-40C")
FOREIGN = Profile(14, 2, (0, 2, 4), "2g.20gb", "NVIDIA H100XM-2-20C")
"""What pods ask for, and what others make GPU instances of: no pod's vGPU goes into these."""


class Site:
    """A node in directory *root*, whose name is short, with the fake library at *library*."""

    def __init__(self, root: Path, library: Path, mode: Mode, *, seed: int) -> None:
        self.mode = mode
        self.api = InMemoryApi()
        self.places = Places(root / "plugins", root / "pod-resources.sock", root / "cdi")
        self.kubelet = FakeKubelet(self.places, seed=seed)
        self.machine = Machine.create(
            library, root / "machine", MODEL, gpus=GPUS, vgpu_host=mode is not Mode.CONTAINER
        )
        self.machine.logging(False)
        self.kernel = Kernel(self.machine)
        self._root = root
        self._library = library
        self._agent: asyncio.Task[None] | None = None
        self._threads = ThreadPoolExecutor()
        if mode is not Mode.CONTAINER:
            for gpu in range(GPUS):
                self.kernel.enable_functions(gpu, FUNCTIONS)
        boot_id = root / "proc/sys/kernel/random/boot_id"
        boot_id.parent.mkdir(parents=True)
        boot_id.write_text("boot-1\n")
        write_mig_minors(root)

    @property
    def resources(self) -> frozenset[str]:
        """What pods may ask for here."""
        return frozenset(each.resource(self.mode) for each in (SMALL, HALF))

    # -- its life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Have everything run, with an empty plan."""
        os.environ[STATE_VARIABLE] = str(self._root / "machine")
        await self.api.create(NODES, {"metadata": {"name": NODE}})
        head = {"apiVersion": keys.API_VERSION, "kind": keys.GPU_NODE_KIND}
        await self.api.create(GPU_NODES, {**head, "metadata": {"name": NODE}, "spec": {}})
        await self.kubelet.start()
        self._begin_agent()

    async def stop(self) -> None:
        """End everything; nobody looks at the machine any more when this returns."""
        await self._end_agent()
        await self.kubelet.stop()
        os.environ.pop(STATE_VARIABLE, None)
        self.machine.close()

    async def restart_agent(self) -> None:
        """End the agent, wherever it is, and begin another."""
        await self._end_agent()
        self._begin_agent()

    def strike_agent(self) -> None:
        """Have the agent end at its next await; :meth:`restart_agent` must follow."""
        assert self._agent is not None
        if not self._agent.cancelling():  # a second time would keep it from ending in order
            self._agent.cancel()

    def _begin_agent(self) -> None:
        self._threads = ThreadPoolExecutor()
        asyncio.get_running_loop().set_default_executor(self._threads)
        self._agent = asyncio.create_task(self._run_agent(), name="agent")

    async def _end_agent(self) -> None:
        if self._agent is not None:
            self.strike_agent()
            await asyncio.wait([self._agent])
            if not self._agent.cancelled():
                self._agent.result()
            self._agent = None
            left_open = ctypes.CDLL(str(self._library)).nvmlShutdown() == 0
            assert not left_open, "the agent has left NVML open"
        self._threads.shutdown()  # a process that has ended writes nothing any more

    async def _run_agent(self) -> None:
        parts = RealNode(
            nodes=(NODE,),
            mode=self.mode,
            state_dir=self._root / "agent",
            location=Location(self._library),
            host_root=self._root,
            places=self.places,
            timing=TIMING,
            settings=SETTINGS,
            sysfs=lambda root: FakeSysfs(self._root, self.kernel, self.mode),
        )
        parts.check()
        async with parts.assembled(self.api, Purview(resources=self.resources)) as agents:
            await agents[0].run()

    # -- the plan and what is told of it -----------------------------------------------------------

    async def plan(self, assignments: Sequence[Assignment]) -> None:
        """Replace the plan, as the extender does."""
        patch = [{"op": "add", "path": "/spec/assignments", "value": assignments}]
        await self.api.patch(GPU_NODES, NODE, patch, patch_type=PatchType.JSON)

    async def gpu_node(self) -> GpuNode:
        """Return the plan and the inventory."""
        return gpunode.decode(await self.api.get(GPU_NODES, NODE))

    def instances(self) -> Mapping[tuple[int, int], tuple[int, int]]:
        """Return the profile and the id of each GPU instance, by GPU and start."""
        return {
            (gpu, each.placement.start): (each.profile_id, each.gi_id)
            for gpu in range(GPUS)
            for each in self.machine.gpu_instances(gpu)
        }

    # -- waiting -----------------------------------------------------------------------------------

    async def pause(self, seconds: float) -> None:
        """Let everybody go on for a while; raises what the agent has ended with, if it has."""
        await asyncio.sleep(seconds)
        assert self._agent is not None
        if self._agent.done():
            self._agent.result()
            raise AssertionError("the agent has ended by itself")

    async def until(self, missing: Callable[[], Awaitable[str]]) -> None:
        """Wait until nothing is *missing*; what it is in the end is an AssertionError."""
        end = time.monotonic() + PATIENCE_SECONDS
        while what := await missing():
            assert time.monotonic() < end, f"after {PATIENCE_SECONDS:g} s still: {what}"
            await self.pause(LOOK_SECONDS)

    async def until_registered(self) -> None:
        """Wait until the kubelet of the moment follows the agent of the moment, and no other."""

        async def missing() -> str:
            served = {path.name for path in self.places.device_plugins.glob("tangram-*.sock")}
            followed = [path.name for _, path in self.kubelet.endpoints]
            known = {resource for resource, _ in self.kubelet.endpoints}
            shown = {resource for resource, count in self.kubelet.allocatable.items() if count}
            fine = known == shown == self.resources and len(followed) == len(known)
            if fine and set(followed) == served:
                return ""
            return f"the kubelet follows {followed} of {served} and shows {shown}"

        await self.until(missing)
