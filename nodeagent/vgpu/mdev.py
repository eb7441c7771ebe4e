"""vGPUs as mediated devices: a UUID written to ``create`` of a type of a virtual function.

::

    /sys/class/mdev_bus/<function>/mdev_supported_types/nvidia-<n>/{name,available_instances,create}
    /sys/bus/mdev/devices/<uuid> -> …/<function>/<uuid>
    /sys/bus/mdev/devices/<uuid>/{mdev_type,remove,iommu_group,nvidia/gpu_instance_id}

Harvester 1.7 and kernels before 6.8 have it so.
"""

from __future__ import annotations

import re
import uuid
from pathlib import PurePosixPath

from nodeagent.driver import VgpuError
from nodeagent.vgpu import functions as files
from nodeagent.vgpu.functions import gone_is_no_error
from nodeagent.vgpu.interface import Order, Vgpu
from nodeagent.vgpu.sysfs import GONE, MDEV_BUS, MDEV_DEVICES, Sysfs, device, mdev

_OURS = uuid.UUID("6b1f2f0a-5a9c-4a53-8d0c-3f1f0a7d2c4e")
_TYPE = re.compile(r"nvidia-([0-9]{1,9})")


class Mdev:
    """The interface of mediated devices."""

    def __init__(self, sysfs: Sysfs) -> None:
        self._sysfs = sysfs

    def name(self, assignment: str) -> str:
        """Return the UUID of an assignment's vGPU: the same one, however often it is made.

        >>> from pathlib import Path
        >>> Mdev(Sysfs(Path("/"))).name("a1")
        'd428884a-e9ef-5127-85ea-b1c832eb5882'
        """
        return str(uuid.uuid5(_OURS, assignment))

    def existing(self, gpu_address: str) -> tuple[Vgpu, ...]:
        """Return the vGPUs of a GPU, whoever made them."""
        of_the_gpu = frozenset(files.functions(self._sysfs, gpu_address))
        found = (self._seen(name, of_the_gpu) for name in self._sysfs.names(MDEV_DEVICES))
        return tuple(vgpu for vgpu in found if vgpu)

    def order(self, gpu_address: str, type_name: str, assignment: str) -> Order:
        """Return how to make the vGPU of an assignment, on the first function that offers the type.

        Should it exist already, somewhere it was not wanted, making it fails.
        """
        wanted = self.name(assignment)
        taken = {vgpu.function for vgpu in self.existing(gpu_address)}
        for function in files.functions(self._sysfs, gpu_address):
            if function not in taken and (type_id := self._creatable(function, type_name)):
                create = _types(function) / f"nvidia-{type_id}" / "create"
                return Order(wanted, type_id, create, wanted)
        raise files.nothing_offers(type_name, gpu_address)

    def remove(self, vgpu: Vgpu) -> None:
        """Take a vGPU away.

        Its file is found below its own UUID and nowhere else: beside the function's directory lies
        ``<function>/remove``, which would tear the function itself off the bus.
        """
        with gone_is_no_error():
            self._sysfs.write(mdev(vgpu.id) / "remove", "1")

    def _seen(self, name: str, of_the_gpu: frozenset[str]) -> Vgpu | None:
        """Return the device *name* if it is one of the GPU's; one that vanishes is not there."""
        link = MDEV_DEVICES / name
        try:
            function = self._sysfs.target(link).parent.name
            return self._described(name, function) if function in of_the_gpu else None
        except VgpuError as error:
            if error.code in GONE and not self._sysfs.exists(link):
                return None
            raise

    def _described(self, name: str, function: str) -> Vgpu:
        directory = mdev(name)
        kind = self._sysfs.target(directory / "mdev_type").name
        match = _TYPE.fullmatch(kind)
        if match is None:
            raise VgpuError(f"follow /{directory}/mdev_type", meaning=f"no vGPU type: {kind!r}")
        return Vgpu(
            id=name,
            function=function,
            type_id=int(match[1]),
            gi_id=files.gpu_instance_id(self._sysfs, directory / "nvidia/gpu_instance_id"),
            group=files.iommu_group(self._sysfs, directory),
            cdev=files.character_device(self._sysfs, directory),
        )

    def _creatable(self, function: str, type_name: str) -> int:
        """Return the number of the type if a vGPU of it can be made on *function* now, else 0."""
        types = _types(function)
        for name in self._sysfs.names(types):
            match = _TYPE.fullmatch(name)
            if match is None:
                continue
            with gone_is_no_error():  # types come and go with GPU instances
                if self._sysfs.read(types / name / "name") == type_name:
                    free = files.number(self._sysfs, types / name / "available_instances")
                    return int(match[1]) if free > 0 else 0
        return 0


def _types(function: str) -> PurePosixPath:
    return MDEV_BUS / device(function).name / "mdev_supported_types"
