"""What the files of both interfaces have in common: virtual functions, numbers, groups."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from nodeagent.driver import VgpuError
from nodeagent.vgpu.sysfs import GONE, Sysfs, device

_NUMBER = re.compile(r"[0-9]{1,9}")


def functions(sysfs: Sysfs, gpu_address: str) -> tuple[str, ...]:
    """Return the addresses of a GPU's virtual functions, in the kernel's order."""
    there = device(gpu_address)
    links = [name for name in sysfs.names(there) if re.fullmatch(r"virtfn[0-9]+", name)]
    links.sort(key=lambda name: int(name.removeprefix("virtfn")))
    return tuple(device(sysfs.target(there / name).name).name for name in links)


def number(sysfs: Sysfs, path: PurePosixPath) -> int:
    """Return the number in a file."""
    return _number(sysfs.read(path), path)


def gpu_instance_id(sysfs: Sysfs, path: PurePosixPath) -> int | None:
    """Return which GPU instance backs a vGPU, None where the driver does not say (yet).

    "N/A", an empty file or no such device are no id; above all they are not 0, which is one.
    """
    try:
        text = sysfs.read(path)
    except VgpuError as error:
        if error.code in (errno.ENXIO, errno.ENODEV):
            return None
        raise
    return None if text in ("", "N/A") else _number(text, path)


def iommu_group(sysfs: Sysfs, directory: PurePosixPath) -> int:
    """Return the number of a device's IOMMU group, which is the name of its file for a VM."""
    path = directory / "iommu_group"
    return _number(sysfs.target(path).name, path)


def character_device(sysfs: Sysfs, directory: PurePosixPath) -> str:
    """Return the name of a device's file for VMs that use iommufd, "" if it has none."""
    path = directory / "vfio-dev"
    found = sysfs.names(path)
    if not found:
        return ""
    if len(found) > 1 or not re.fullmatch(r"vfio[0-9]+", found[0]):
        raise VgpuError(f"list /{path}", meaning=f"not one VFIO device: {' '.join(found)[:40]!r}")
    return found[0]


def nothing_offers(type_name: str, gpu_address: str) -> VgpuError:
    """Return the error for a type that no free virtual function of the GPU offers."""
    return VgpuError(
        f"create {type_name} on {gpu_address}",
        code=errno.ENOSPC,
        meaning="no free virtual function offers the type",
    )


@contextlib.contextmanager
def gone_is_no_error() -> Iterator[None]:
    """Let pass that a file is no longer there."""
    try:
        yield
    except VgpuError as error:
        if error.code not in GONE:
            raise


def _number(text: str, path: PurePosixPath) -> int:
    if not _NUMBER.fullmatch(text):
        raise VgpuError(f"read /{path}", meaning=f"not a number: {text[:40]!r}")
    return int(text)
