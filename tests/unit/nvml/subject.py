"""The NVML driver's way into the exam of drivers: a node of the fake library."""

from __future__ import annotations

from pathlib import Path

from nodeagent.api.catalog import MODELS
from nodeagent.api.gpunode import Mode
from nodeagent.driver import Driver
from tests.unit.nvml.node import Node

# Of the catalog's B200 not every profile's memory is known, so that the fake has to invent it.
EXAMINED = [n for n, m in MODELS.items() if all(p.memory_mib for p in m.geometry.profiles)]


class NvmlSubject:
    """A node of the fake library; a GPU instance is used by the vGPU of a VM, or by a process."""

    def __init__(self, model: str, gpus: int, directory: Path, mode: Mode = Mode.VGPU_VFIO) -> None:
        self.model = model
        self._mode = mode
        self._node = Node(directory, model, gpus=gpus, mode=mode)
        self._machine = self._node.machine
        self._vgpus: dict[int, int] = {}
        self.driver: Driver = self._node.driver

    def open(self, gpu: str, gi_id: int) -> None:
        index = self._index(gpu)
        if self._mode is Mode.CONTAINER:
            self._machine.open_client(index, gi_id, f"process {gi_id}", listed=True)
            return
        (backing,) = (i for i in self._machine.gpu_instances(index) if i.gi_id == gi_id)
        types = (t for t in MODELS[self.model].vgpu_types if t.profile_id == backing.profile_id)
        self._vgpus[gi_id] = self._machine.start_vgpu(index, gi_id, next(types).name)

    def close(self, gpu: str, gi_id: int) -> None:
        if self._mode is Mode.CONTAINER:
            self._machine.close_client(f"process {gi_id}")
        else:
            self._machine.stop_vgpu(self._vgpus.pop(gi_id))

    def lose(self, gpu: str) -> None:
        self._machine.lose(self._index(gpu))

    def disable_mig(self, gpu: str) -> None:
        self._node.set_mig_mode(self._index(gpu), False)

    def reboot(self) -> None:
        self._node.reboot()

    async def aclose(self) -> None:
        await self._node.close()

    def _index(self, gpu: str) -> int:
        return list(self._machine.uuids).index(gpu)
