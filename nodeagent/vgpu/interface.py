"""What mdev and vendor VFIO have in common, and the values they speak in."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Protocol

import msgspec


class Vgpu(msgspec.Struct, frozen=True):
    """A vGPU that exists on virtual function ``function`` (a PCI address).

    ``id`` is what a VM is handed: its UUID (mdev) or its function's address (vendor VFIO).
    ``type_id`` is the driver's number of its type. ``gi_id`` is the GPU instance the driver has put
    it into, None where it does not say. ``group`` is its IOMMU group, ``cdev`` its file in
    ``/dev/vfio/devices``, "" on kernels that have none.
    """

    id: str
    function: str
    type_id: int
    gi_id: int | None
    group: int
    cdev: str = ""

    @property
    def nodes(self) -> tuple[str, ...]:
        """The device files that a VM opens."""
        return ("/dev/vfio/vfio", f"/dev/vfio/{self.group}")

    def is_open(self, opened: frozenset[str]) -> bool:
        """Tell whether one of the *opened* files is its own: every VM opens /dev/vfio/vfio."""
        own = {f"/dev/vfio/{self.group}"}
        if self.cdev:
            own.add(f"/dev/vfio/devices/{self.cdev}")
        return not opened.isdisjoint(own)


class Order(msgspec.Struct, frozen=True):
    """What has to be written where, for the vGPU ``id`` of type ``type_id`` to come to be."""

    id: str
    type_id: int
    path: PurePosixPath
    text: str


class Interface(Protocol):
    """One of the kernel's ways to make vGPUs. Calls block and may raise ``VgpuError``."""

    def name(self, assignment: str) -> str:
        """Return the id that nobody but us gives a vGPU, "" where ids are not ours to give."""

    def existing(self, gpu_address: str) -> tuple[Vgpu, ...]:
        """Return the vGPUs of a GPU, whoever made them."""

    def order(self, gpu_address: str, type_name: str, assignment: str) -> Order:
        """Return how to make a vGPU of that type for *assignment*, on a free virtual function."""

    def remove(self, vgpu: Vgpu) -> None:
        """Take a vGPU away; one that is gone already is no error."""
