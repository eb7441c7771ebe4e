"""The agent of the node that this process is on, on its real GPUs and its kubelet."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import msgspec

from nodeagent.agent import Agent
from nodeagent.agent.preparing import Prepare
from nodeagent.api.gpunode import Mode, PodRef
from nodeagent.apiserver.protocol import ApiServer
from nodeagent.assembly import JOURNAL, WrongUsage
from nodeagent.deviceplugin import DevicePlugins, Places, Timing
from nodeagent.driver import Driver, LiveGpu
from nodeagent.harvester import (
    UNREAD,
    ClusterObjects,
    DriverPods,
    DriverRoot,
    HarvesterDriver,
    HarvesterHandout,
    HarvesterPlugin,
    Making,
)
from nodeagent.journal_file import FileJournal
from nodeagent.kubelet import Kubelet
from nodeagent.node_pods import gpu_pods
from nodeagent.nvml import Location, NvmlDriver
from nodeagent.nvml.thread import NvmlThread
from nodeagent.purview import Purview
from nodeagent.settings import Settings
from nodeagent.vgpu import Sysfs, VgpuDriver, enable_sriov
from nodeagent.vgpu.worker import Worker

RECORD = "vgpus.json"
FILES_WITHIN_SECONDS = 45.0
"""After so long a read or write of the kernel's files is stuck, as a call of NVML is."""


class RealNode(msgspec.Struct, frozen=True):
    """The node that this process is on, with its real GPUs and its kubelet.

    *host_root* is where its ``/proc``, ``/sys`` and ``/dev`` are, read through *sysfs*.
    """

    nodes: tuple[str, ...]
    mode: Mode | None
    state_dir: Path | None
    location: Location
    host_root: Path
    places: Places
    enable_mig: bool = False
    enable_sriov: bool = False
    timing: Timing = Timing()
    settings: Settings = Settings()
    sysfs: Callable[[Path], Sysfs] = Sysfs

    @property
    def connections(self) -> int:
        """The plan's watch, those of Harvester's objects, and a request now and then."""
        return 12

    def check(self) -> None:
        """Raise :class:`WrongUsage` if the options do not say all, or contradict each other."""
        if len(self.nodes) != 1:
            raise WrongUsage("the real GPUs here are those of one node: give --node once")
        if self.mode is None:
            raise WrongUsage(
                "--mode: say how this node hands out GPU instances:"
                " container, vgpu-mdev, vgpu-vfio or harvester"
            )
        if self.enable_mig and self.mode is Mode.HARVESTER:
            raise WrongUsage("--enable-mig: Harvester turns MIG mode on by itself; leave it out")
        if self.state_dir is None:
            raise WrongUsage(
                "--state-dir: say where to keep the journal, on the node's own disk;"
                " without it a restarted agent does not know which GPU instances it made"
            )
        if self.enable_sriov and self.mode is Mode.CONTAINER:
            raise WrongUsage("--enable-sriov: containers use no virtual functions; leave it out")

    @contextlib.asynccontextmanager
    async def assembled(self, api: ApiServer, purview: Purview) -> AsyncIterator[Sequence[Agent]]:
        """Return the node's agent."""
        (node,) = self.nodes
        assert self.mode is not None  # as check() has seen to
        assert self.state_dir is not None
        settings = self.settings

        async def pods() -> frozenset[PodRef]:
            return await gpu_pods(api, node, timeout=settings.api_timeout_seconds)

        state_dir = self.state_dir / node
        async with contextlib.AsyncExitStack() as stack:
            kubelet: Kubelet
            handout = prepare = None
            if self.mode is Mode.HARVESTER:
                objects = ClusterObjects(api, node, timeout=settings.api_timeout_seconds)
                driver_pods = DriverPods(api, node, timeout=settings.api_timeout_seconds)
                gpus = await stack.enter_async_context(self._harvesters(objects, driver_pods))
                making = Making(gpus, objects, functions=self.enable_sriov)
                plugin = HarvesterPlugin(pods=pods, places=self.places, timing=self.timing)
                handout = HarvesterHandout(plugin, making, within=settings.kubelet_timeout_seconds)
                driver: Driver = gpus
                kubelet = plugin
            else:
                driver, prepare = await stack.enter_async_context(self._gpus(self.mode, state_dir))
                kubelet = DevicePlugins(
                    self.mode, pods=pods, places=self.places, timing=self.timing
                )
            yield [
                Agent(
                    node,
                    api=api,
                    driver=driver,
                    kubelet=kubelet,
                    handout=handout,
                    journal=FileJournal(state_dir / JOURNAL),
                    epoch=str(uuid.uuid4()),
                    settings=settings,
                    purview=purview,
                    prepare=prepare,
                )
            ]

    @contextlib.asynccontextmanager
    async def _harvesters(
        self, objects: ClusterObjects, pods: DriverPods
    ) -> AsyncIterator[HarvesterDriver]:
        """Return the driver of GPUs whose devices are Harvester's; then close it."""
        location: Location | Callable[[], Location] = self.location
        if self.location == Location():
            location = DriverRoot(self.host_root / "proc", lambda: pods.uids).location
        async with NvmlDriver(location, Mode.HARVESTER, root=self.host_root, shut=UNREAD) as nvml:
            worker = NvmlThread(within=FILES_WITHIN_SECONDS)
            try:
                files = self.sysfs(self.host_root)
                yield HarvesterDriver(nvml, objects, files, worker, pods.ask)
            finally:
                await worker.close()

    @contextlib.asynccontextmanager
    async def _gpus(
        self, mode: Mode, state_dir: Path
    ) -> AsyncIterator[tuple[Driver, Prepare | None]]:
        """Return the driver, and what makes GPUs ready if that is asked for; then close it."""
        async with NvmlDriver(self.location, mode, root=self.host_root) as nvml:
            if mode is Mode.CONTAINER:
                yield nvml, self._preparing(nvml)
                return
            files, worker = self.sysfs(self.host_root), NvmlThread(within=FILES_WITHIN_SECONDS)
            try:
                vgpus = VgpuDriver(nvml, files, mode, worker, state_dir / RECORD)
                yield vgpus, self._preparing(nvml, files, worker)
            finally:
                await worker.close()

    def _preparing(
        self, nvml: NvmlDriver, files: Sysfs | None = None, worker: Worker | None = None
    ) -> Prepare | None:
        if not self.enable_mig and not self.enable_sriov:
            return None

        async def prepare(gpu: LiveGpu) -> str:
            """MIG mode first: enabling virtual functions keeps it, and wipes GPU instances."""
            if not gpu.mig_enabled:
                if not self.enable_mig:
                    return "MIG mode is off (--enable-mig turns it on)"
                if needed := await nvml.enable_mig(gpu.uuid):
                    return needed
            if self.enable_sriov and files is not None and worker is not None:
                ready = msgspec.structs.replace(gpu, mig_enabled=True)
                await enable_sriov(ready, files, worker, closed=nvml.closed)
            return ""

        return prepare
