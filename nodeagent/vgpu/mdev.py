"""vGPUs as mediated devices: a UUID written to ``create`` of a type of a virtual function.

::

    /sys/class/mdev_bus/<function>/mdev_supported_types/nvidia-<n>/{name,available_instances,create}
    /sys/bus/mdev/devices/<uuid> -> …/<function>/<uuid>
    /sys/bus/mdev/devices/<uuid>/{remove,iommu_group,nvidia/gpu_instance_id}

Harvester 1.7 and kernels before 6.8 have it so.
"""

from __future__ import annotations

import contextlib
import errno
import re
import uuid
from collections.abc import Iterator
from pathlib import PurePosixPath

from nodeagent.driver import VgpuError
from nodeagent.vgpu import sysfs as files
from nodeagent.vgpu.interface import Order, Vgpu
from nodeagent.vgpu.sysfs import Sysfs

MDEV_BUS = PurePosixPath("sys/class/mdev_bus")
MDEV_DEVICES = PurePosixPath("sys/bus/mdev/devices")
_OURS = uuid.UUID("6b1f2f0a-5a9c-4a53-8d0c-3f1f0a7d2c4e")


def uuid_of(assignment: str) -> uuid.UUID:
    """Return the UUID of the vGPU made for an assignment: the same one, however often it is made.

    >>> str(uuid_of("a1"))
    'd428884a-e9ef-5127-85ea-b1c832eb5882'
    """
    return uuid.uuid5(_OURS, assignment)


class Mdev:
    """The interface of mediated devices."""

    def __init__(self, sysfs: Sysfs) -> None:
        self._sysfs = sysfs

    def existing(self, gpu_address: str) -> tuple[Vgpu, ...]:
        """Return the vGPUs of a GPU, whoever made them."""
        of_the_gpu = frozenset(files.functions(self._sysfs, gpu_address))
        found = []
        for name in self._sysfs.names(MDEV_DEVICES):
            which = _parsed(name)
            # One that vanishes while it is looked at is not there.
            with _gone_is_no_error():
                function = self._sysfs.target(MDEV_DEVICES / name).parent.name
                if function in of_the_gpu:
                    found.append(self._described(which, function))
        return tuple(found)

    def order(self, gpu_address: str, type_name: str, assignment: str) -> Order:
        """Return how to make the vGPU of an assignment, on the first function that offers the type.

        Should it exist already, somewhere it was not wanted, making it fails.
        """
        wanted = str(uuid_of(assignment))
        taken = {vgpu.function for vgpu in self.existing(gpu_address)}
        for function in files.functions(self._sysfs, gpu_address):
            if function not in taken and (create := self._creates(function, type_name)):
                return Order(wanted, create, wanted, unmistakable=True)
        raise nothing_offers(type_name, gpu_address)

    def remove(self, vgpu: Vgpu) -> None:
        """Take a vGPU away.

        Its file is found below its own UUID and nowhere else: beside the function's directory lies
        ``<function>/remove``, which would tear the function itself off the bus.
        """
        which = _parsed(vgpu.id)
        with _gone_is_no_error():
            self._sysfs.write(MDEV_DEVICES / str(which) / "remove", "1")

    def _described(self, which: uuid.UUID, function: str) -> Vgpu:
        directory = MDEV_DEVICES / str(which)
        return Vgpu(
            id=str(which),
            function=function,
            gi_id=gpu_instance_id(self._sysfs, directory / "nvidia/gpu_instance_id"),
            group=files.iommu_group(self._sysfs, directory),
        )

    def _creates(self, function: str, type_name: str) -> PurePosixPath | None:
        """Return the file that makes a vGPU of the type on *function*, None if none does now."""
        types = MDEV_BUS / files.device(function).name / "mdev_supported_types"
        for name in self._sysfs.names(types):
            if not re.fullmatch(r"nvidia-[0-9]+", name):
                continue
            with _gone_is_no_error():  # types come and go with GPU instances
                if self._sysfs.read(types / name / "name") == type_name:
                    free = number(self._sysfs, types / name / "available_instances")
                    return types / name / "create" if free > 0 else None
        return None


def gpu_instance_id(sysfs: Sysfs, path: PurePosixPath) -> int | None:
    """Return which GPU instance backs a vGPU, None where the driver does not say (yet).

    "N/A", an empty file or no such device are no id; above all they are not 0, which is one.
    """
    try:
        text = sysfs.read(path)
    except VgpuError as error:
        if error.code in (errno.ENXIO, errno.ENOENT, errno.ENODEV):
            return None
        raise
    return int(text) if text.isdecimal() else None


def number(sysfs: Sysfs, path: PurePosixPath) -> int:
    """Return the number in a file."""
    text = sysfs.read(path)
    if not text.isdecimal():
        raise VgpuError(f"read /{path}", meaning=f"not a number: {text[:40]!r}")
    return int(text)


def nothing_offers(type_name: str, gpu_address: str) -> VgpuError:
    """Return the error for a type that no free virtual function of the GPU offers."""
    return VgpuError(
        f"create {type_name} on {gpu_address}",
        code=errno.ENOSPC,
        meaning="no free virtual function offers the type",
    )


def _parsed(name: str) -> uuid.UUID:
    try:
        found = uuid.UUID(name)
    except ValueError as error:
        raise VgpuError(f"find {name[:40]!r}", meaning="no UUID of a mediated device") from error
    if str(found) != name:
        raise VgpuError(f"find {name[:40]!r}", meaning="not spelled as the kernel does")
    return found


@contextlib.contextmanager
def _gone_is_no_error() -> Iterator[None]:
    try:
        yield
    except VgpuError as error:
        if error.code not in (errno.ENOENT, errno.ENODEV):
            raise
