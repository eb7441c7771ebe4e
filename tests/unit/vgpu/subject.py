"""The vGPU driver's way into the exam of drivers: a node of the fake library and the fake files."""

from __future__ import annotations

from pathlib import Path

from nodeagent.api.catalog import MODELS
from nodeagent.api.gpunode import Mode
from nodeagent.driver import Driver
from tests.unit.vgpu.node import VgpuNode

EXAMINED = ("A30-24GB", "A100-40GB", "H100-80GB")


class VgpuSubject:
    """A node whose GPU instances are used by the vGPU of a VM, whoever has made that."""

    def __init__(self, model: str, gpus: int, directory: Path, mode: Mode) -> None:
        self.model = model
        self._node = VgpuNode(directory, model, mode, gpus=gpus)
        self.driver: Driver = self._node.driver

    def open(self, gpu: str, gi_id: int) -> None:
        index, kernel = self._index(gpu), self._node.kernel
        (backing,) = (i for i in self._node.machine.gpu_instances(index) if i.gi_id == gi_id)
        if not self._in(index, gi_id):
            types = MODELS[self.model].vgpu_types
            name = next(t.name for t in types if t.profile_id == backing.profile_id)
            uuid = (
                f"00000000-0000-4000-8000-{gi_id:012}" if self._node.mode is Mode.VGPU_MDEV else ""
            )
            kernel.create(index, gi_id, kernel.types(index)[name], uuid)
        for function in self._in(index, gi_id):
            kernel.open(index, function)

    def close(self, gpu: str, gi_id: int) -> None:
        for function in self._in(self._index(gpu), gi_id):
            self._node.kernel.open(self._index(gpu), function, opened=False)

    def lose(self, gpu: str) -> None:
        self._node.machine.lose(self._index(gpu))

    def disable_mig(self, gpu: str) -> None:
        self._node.nvml.set_mig_mode(self._index(gpu), False)

    def reboot(self) -> None:
        self._node.reboot()

    async def aclose(self) -> None:
        await self._node.close()

    def _in(self, gpu: int, gi_id: int) -> list[int]:
        vgpus = self._node.vgpus()
        return [each.function for each in vgpus if (each.gpu, each.gi_id) == (gpu, gi_id)]

    def _index(self, gpu: str) -> int:
        return list(self._node.machine.uuids).index(gpu)
