"""A node with fake GPUs whose GPU instances come with vGPUs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Mode, VgpuType
from nodeagent.api.resources import of_vgpu_type
from nodeagent.driver import LiveGpu, LiveInstance, Purpose
from nodeagent.nvml.thread import NvmlThread
from nodeagent.vgpu import VgpuDriver
from tests.fakes.sysfs.kernel import Kernel, KernelVgpu
from tests.fakes.sysfs.tree import FakeSysfs
from tests.unit.nvml.node import Node

FUNCTIONS = 8


class VgpuNode:
    """A node in *directory*, with its record on disk; :meth:`close` it in the end."""

    def __init__(
        self,
        directory: Path,
        model: str = "A30-24GB",
        mode: Mode = Mode.VGPU_VFIO,
        *,
        gpus: int = 1,
        functions: int = FUNCTIONS,
        iommufd: bool = False,
        within: float = 10.0,
    ) -> None:
        self.model = model
        self.mode = mode
        self.record = directory / "state-of-agent/vgpus.json"
        self.nvml = Node(directory, model, gpus=gpus, mode=mode)
        self.machine = self.nvml.machine
        self.kernel = Kernel(self.machine)
        self._directory = directory
        self._functions = functions
        self._iommufd = iommufd
        self._within = within
        self._enable_functions()
        self._begin()

    def _begin(self) -> None:
        self.sysfs = FakeSysfs(self._directory, self.kernel, self.mode, iommufd=self._iommufd)
        self.worker = NvmlThread(within=self._within)
        self.driver = VgpuDriver(self.nvml.driver, self.sysfs, self.mode, self.worker, self.record)

    def _enable_functions(self) -> None:
        for gpu in range(len(self.machine.uuids)):
            self.kernel.enable_functions(gpu, self._functions)

    async def restart(self) -> None:
        """Let the agent begin anew, with what is on disk."""
        self.worker.stop()
        await self.nvml.restart()
        self._begin()

    def reboot(self) -> None:
        """Reboot; the node enables virtual functions as it starts."""
        self.nvml.reboot()
        self._enable_functions()

    async def close(self) -> None:
        self.worker.stop()
        await self.nvml.close()

    # -- what there is -----------------------------------------------------------------------------

    @property
    def uuid(self) -> str:
        """The first GPU's."""
        return self.machine.uuids[0]

    async def gpu(self, index: int = 0) -> LiveGpu:
        return (await self.driver.discover()).gpus[index]

    async def instance(self, gi_id: int, gpu: int = 0) -> LiveInstance:
        return next(each for each in (await self.gpu(gpu)).instances if each.gi_id == gi_id)

    def vgpus(self) -> list[KernelVgpu]:
        return self.kernel.vgpus()

    @property
    def types(self) -> Sequence[VgpuType]:
        """The model's types of one vGPU each."""
        return [each for each in MODELS[self.model].vgpu_types if each.max_per_instance == 1]

    @property
    def type(self) -> VgpuType:
        """A type of which the smallest GPU instances are the backing."""
        sizes = {p.id: p.size for p in MODELS[self.model].geometry.profiles}
        return min(self.types, key=lambda each: (sizes[each.profile_id], each.profile_id))

    def places(self, kind: VgpuType | None = None) -> tuple[Placement, ...]:
        return MODELS[self.model].geometry.by_id[(kind or self.type).profile_id].placements

    # -- what is done ------------------------------------------------------------------------------

    async def create(self, assignment: str = "a1", place: int = 0, gpu: int = 0) -> int:
        """Have the driver make a vGPU of :attr:`type` for an assignment."""
        purpose = Purpose(assignment, of_vgpu_type(self.type.name)[0])
        return await self.driver.create(
            self.machine.uuids[gpu], self.type.profile_id, self.places()[place], purpose
        )

    def foreign_instance(self, place: int = 1) -> int:
        """Let somebody else make a GPU instance of :attr:`type`'s profile."""
        return self.machine.create_gpu_instance(0, self.type.profile_id, self.places()[place])

    def foreign_vgpu(self, function: int = FUNCTIONS, uuid: str = "") -> None:
        """Let somebody else make a vGPU of :attr:`type`, on a function we use last."""
        number = self.kernel.types(0)[self.type.name]
        name = uuid or f"00000000-0000-4000-8000-{function:012}"
        self.kernel.create(0, function, number, name if self.mode is Mode.VGPU_MDEV else "")
