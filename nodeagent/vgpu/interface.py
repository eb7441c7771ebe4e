"""What mdev and vendor VFIO have in common, and the values they speak in."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Protocol

import msgspec


class Vgpu(msgspec.Struct, frozen=True):
    """A vGPU that exists on virtual function ``function`` (a PCI address).

    ``id`` is what a VM is handed: its UUID (mdev) or its function's address (vendor VFIO).
    ``gi_id`` is the GPU instance the driver has put it into, None where it does not say.
    ``group`` is its IOMMU group.
    """

    id: str
    function: str
    gi_id: int | None
    group: int

    @property
    def nodes(self) -> tuple[str, ...]:
        """The device files that a VM opens."""
        return ("/dev/vfio/vfio", f"/dev/vfio/{self.group}")


class Order(msgspec.Struct, frozen=True):
    """What has to be written where, for the vGPU ``id`` to come to be.

    ``unmistakable`` is whether nobody but us would give a vGPU that id.
    """

    id: str
    path: PurePosixPath
    text: str
    unmistakable: bool


class Interface(Protocol):
    """One of the kernel's ways to make vGPUs. Calls block and may raise ``VgpuError``."""

    def existing(self, gpu_address: str) -> tuple[Vgpu, ...]:
        """Return the vGPUs of a GPU, whoever made them."""

    def order(self, gpu_address: str, type_name: str, assignment: str) -> Order:
        """Return how to make a vGPU of that type for *assignment*, on a free virtual function."""

    def remove(self, vgpu: Vgpu) -> None:
        """Take a vGPU away; one that is gone already is no error."""
