"""vGPUs as virtual functions with NVIDIA's own VFIO driver: a type's number written to a file.

::

    /sys/bus/pci/devices/<function>/nvidia/{creatable_vgpu_types,current_vgpu_type,gpu_instance_id}
    /sys/bus/pci/devices/<function>/iommu_group -> …/<group>
    /sys/bus/pci/devices/<function>/vfio-dev/vfio<n>

``current_vgpu_type`` is 0 where there is no vGPU. A function that another driver has, such as
vfio-pci, has no ``nvidia`` and takes no vGPU. Harvester 1.8 and kernels from 6.8 have it so.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from nodeagent.driver import VgpuError
from nodeagent.vgpu import functions as files
from nodeagent.vgpu.interface import Order, Vgpu
from nodeagent.vgpu.sysfs import Sysfs, device

_HEADER = re.compile(r"ID\s*:\s*vGPU Name\s*")
_TYPE = re.compile(r"\s*([0-9]{1,9})\s*:\s*(\S.*?)\s*")


class VendorVfio:
    """The interface of vendor VFIO."""

    def __init__(self, sysfs: Sysfs) -> None:
        self._sysfs = sysfs

    def name(self, assignment: str) -> str:
        """Return "": a vGPU is named by its function."""
        return ""

    def existing(self, gpu_address: str) -> tuple[Vgpu, ...]:
        """Return the vGPUs of a GPU, whoever made them."""
        return tuple(
            self._described(function, type_id)
            for function in self._able(gpu_address)
            if (type_id := self._type(function))
        )

    def order(self, gpu_address: str, type_name: str, assignment: str) -> Order:
        """Return how to make a vGPU on the first free function that offers the type."""
        for function in self._able(gpu_address):
            if self._type(function):
                continue
            type_id = self._creatable(function).get(type_name)
            if type_id is not None:
                path = _nvidia(function) / "current_vgpu_type"
                return Order(function, type_id, path, str(type_id))
        raise files.nothing_offers(type_name, gpu_address)

    def remove(self, vgpu: Vgpu) -> None:
        """Take a vGPU away; the function stays. One of another type is another vGPU."""
        if self._type(vgpu.function) == vgpu.type_id:
            self._sysfs.write(_nvidia(vgpu.function) / "current_vgpu_type", "0")

    def _able(self, gpu_address: str) -> list[str]:
        all_of_them = files.functions(self._sysfs, gpu_address)
        return [each for each in all_of_them if self._sysfs.exists(_nvidia(each))]

    def _described(self, function: str, type_id: int) -> Vgpu:
        return Vgpu(
            id=function,
            function=function,
            type_id=type_id,
            gi_id=files.gpu_instance_id(self._sysfs, _nvidia(function) / "gpu_instance_id"),
            group=files.iommu_group(self._sysfs, device(function)),
            cdev=files.character_device(self._sysfs, device(function)),
        )

    def _type(self, function: str) -> int:
        return files.number(self._sysfs, _nvidia(function) / "current_vgpu_type")

    def _creatable(self, function: str) -> dict[str, int]:
        path = _nvidia(function) / "creatable_vgpu_types"
        return types(self._sysfs.read(path), path)


def types(text: str, path: PurePosixPath) -> dict[str, int]:
    """Map each type's name to its number, from a list under its header; of *path*, for errors.

    >>> types("ID    : vGPU Name\\n1145  : NVIDIA L40S-1B", PurePosixPath("types"))
    {'NVIDIA L40S-1B': 1145}
    """
    found = {}
    for line in text.splitlines():
        if line.strip() in ("", "N/A") or _HEADER.fullmatch(line):
            continue
        match = _TYPE.fullmatch(line)
        if match is None or int(match[1]) == 0:
            raise VgpuError(f"read /{path}", meaning=f"no vGPU type: {line[:60]!r}")
        found[match[2]] = int(match[1])
    return found


def _nvidia(function: str) -> PurePosixPath:
    return device(function) / "nvidia"
