"""The kernel's files: read, listed, followed, written; an ``OSError`` ends here.

``root`` is where ``/sys``, ``/proc`` and ``/dev`` are. Paths are relative to it and made of parts
this package has checked; nothing that came from outside is joined to one unchecked.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from nodeagent.driver import VgpuError

PCI_DEVICES = PurePosixPath("sys/bus/pci/devices")
_PCI_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
LONGEST_BYTES = 1 << 20
"""What is read of one file at most; the longest, a list of types, is a few kilobytes."""


class Sysfs:
    """The files below *root*. Every method blocks and may raise :class:`VgpuError`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, path: PurePosixPath) -> str:
        """Return a file's text without the white space around it."""
        with self._translated("read", path), (self.root / path).open("rb") as file:
            return file.read(LONGEST_BYTES).decode(errors="replace").strip()

    def write(self, path: PurePosixPath, text: str) -> None:
        """Write *text* in one go, as the kernel wants it; the file must exist."""
        with self._translated("write", path):
            file = os.open(self.root / path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(file, text.encode())
            finally:
                os.close(file)

    def names(self, path: PurePosixPath) -> tuple[str, ...]:
        """Return the sorted names in a directory, none where it does not exist."""
        with self._translated("list", path):
            try:
                return tuple(sorted(os.listdir(self.root / path)))
            except FileNotFoundError:
                return ()

    def exists(self, path: PurePosixPath) -> bool:
        """Tell whether there is such a file."""
        with self._translated("look at", path):
            return os.path.lexists(self.root / path)

    def target(self, path: PurePosixPath) -> PurePosixPath:
        """Return where a link points, as it is written in it."""
        with self._translated("follow", path):
            return PurePosixPath(os.readlink(self.root / path))

    def opened(self) -> frozenset[str]:
        """Return every file that some process has open, by the paths the kernel tells.

        Processes that end meanwhile, and those that may not be looked into, do not count: an agent
        that shares the node's PIDs as root sees them all.
        """
        found: set[str] = set()
        for process in self.names(PurePosixPath("proc")):
            if process.isdecimal():
                directory = self.root / "proc" / process / "fd"
                with contextlib.suppress(OSError):
                    for each in os.listdir(directory):
                        with contextlib.suppress(OSError):
                            found.add(os.readlink(directory / each))
        return frozenset(found)

    @contextlib.contextmanager
    def _translated(self, verb: str, path: PurePosixPath) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise VgpuError(f"{verb} /{path}", code=error.errno or 0) from error


def device(address: str) -> PurePosixPath:
    """Return a PCI device's directory.

    Raises:
        VgpuError: *address* is none.
    """
    if not _PCI_ADDRESS.fullmatch(address):
        raise VgpuError(f"find {address!r}", meaning="no PCI address")
    return PCI_DEVICES / address


def functions(sysfs: Sysfs, gpu_address: str) -> tuple[str, ...]:
    """Return the addresses of a GPU's virtual functions, in the kernel's order."""
    there = device(gpu_address)
    links = [name for name in sysfs.names(there) if re.fullmatch(r"virtfn[0-9]+", name)]
    links.sort(key=lambda name: int(name.removeprefix("virtfn")))
    return tuple(device(sysfs.target(there / name).name).name for name in links)


def iommu_group(sysfs: Sysfs, directory: PurePosixPath) -> int:
    """Return the number of a device's IOMMU group, which is the name of its file for a VM."""
    group = sysfs.target(directory / "iommu_group").name
    if not group.isdecimal():
        raise VgpuError(f"follow /{directory}/iommu_group", meaning=f"no group: {group!r}")
    return int(group)
