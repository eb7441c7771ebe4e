"""The kernel's files: read, listed, followed, written; an ``OSError`` ends here.

``root`` is where ``/sys``, ``/proc`` and ``/dev`` are. Paths are relative to it and made of parts
this package has checked; nothing that came from outside is joined to one unchecked.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from nodeagent.driver import NoPermission, VgpuError

PCI_DEVICES = PurePosixPath("sys/bus/pci/devices")
MDEV_BUS = PurePosixPath("sys/class/mdev_bus")
MDEV_DEVICES = PurePosixPath("sys/bus/mdev/devices")

GONE = frozenset({errno.ENOENT, errno.ENODEV})
LONGEST_BYTES = 1 << 20
"""What is read of one file at most; the longest, a list of types, is a few kilobytes."""

_PROC = PurePosixPath("proc")
_ADDRESS = r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]"
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"

# All that is ever written. Beside each of these directories lies a `remove` that would tear a
# function, or the whole GPU, off the bus.
_WRITTEN = re.compile(
    rf"{MDEV_BUS}/{_ADDRESS}/mdev_supported_types/nvidia-[0-9]+/create"
    rf"|{MDEV_DEVICES}/{_UUID}/remove"
    rf"|{PCI_DEVICES}/{_ADDRESS}/nvidia/current_vgpu_type"
)


class Sysfs:
    """The files below *root*. Every method blocks and may raise :class:`VgpuError`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, path: PurePosixPath) -> str:
        """Return a file's text without the white space around it."""
        with self._translated("read", path), (self.root / path).open("rb") as file:
            return file.read(LONGEST_BYTES).decode(errors="replace").strip()

    def write(self, path: PurePosixPath, text: str) -> None:
        """Write *text* in one go, as the kernel wants it; the file must exist.

        Only the three files that make or remove a vGPU can be written.
        """
        if not _WRITTEN.fullmatch(str(path)):
            raise VgpuError(f"write /{path}", meaning="no file that makes or removes a vGPU")
        with self._translated("write", path):
            self._deliver(path, text)

    def names(self, path: PurePosixPath) -> tuple[str, ...]:
        """Return the sorted names in a directory, none where it does not exist."""
        with self._translated("list", path):
            try:
                return tuple(sorted(self._list(path)))
            except FileNotFoundError:
                return ()

    def exists(self, path: PurePosixPath) -> bool:
        """Tell whether there is such a file."""
        with self._translated("look at", path):
            return os.path.lexists(self.root / path)

    def target(self, path: PurePosixPath) -> PurePosixPath:
        """Return where a link points, as it is written in it."""
        with self._translated("follow", path):
            return PurePosixPath(self._follow(path))

    def opened(self) -> frozenset[str]:
        """Return every file that some process has open, by the paths the kernel tells.

        Raises:
            NoPermission: not every process may be looked into, so nothing is known to be closed.
            VgpuError: there is no process to be seen, or anything else.
        """
        processes = [name for name in self.names(_PROC) if name.isdecimal()]
        if not processes:
            raise VgpuError("list /proc", meaning="no process is to be seen")
        found: set[str] = set()
        for process in processes:
            with _vanished_is_no_error():
                directory = _PROC / process / "fd"
                for each in self._descriptors(directory):
                    with _vanished_is_no_error():
                        found.add(str(self._looked_into(directory / each)))
        return frozenset(found)

    def _descriptors(self, directory: PurePosixPath) -> list[str]:
        with _forbidden_is_told(directory), self._translated("list", directory):
            return self._list(directory)

    def _looked_into(self, path: PurePosixPath) -> str:
        with _forbidden_is_told(path), self._translated("follow", path):
            return self._follow(path)

    # -- the system's own calls --------------------------------------------------------------------

    def _list(self, path: PurePosixPath) -> list[str]:
        return os.listdir(self.root / path)

    def _follow(self, path: PurePosixPath) -> str:
        return os.readlink(self.root / path)

    def _deliver(self, path: PurePosixPath, text: str) -> None:
        file = os.open(self.root / path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(file, text.encode())
        finally:
            os.close(file)

    @contextlib.contextmanager
    def _translated(self, verb: str, path: PurePosixPath) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise VgpuError(f"{verb} /{path}", code=error.errno or 0) from error


@contextlib.contextmanager
def _forbidden_is_told(path: PurePosixPath) -> Iterator[None]:
    try:
        yield
    except VgpuError as error:
        if error.code in (errno.EACCES, errno.EPERM):
            detail = "to know which vGPUs are open the agent must see all processes of the node"
            raise NoPermission(f"look into /{path}", detail=detail) from error
        raise


@contextlib.contextmanager
def _vanished_is_no_error() -> Iterator[None]:
    try:
        yield
    except VgpuError as error:
        if error.code not in (errno.ENOENT, errno.ESRCH):
            raise


def device(address: str) -> PurePosixPath:
    """Return a PCI device's directory.

    Raises:
        VgpuError: *address* is none.
    """
    if not re.fullmatch(_ADDRESS, address):
        raise VgpuError(f"find {address!r}", meaning="no PCI address")
    return PCI_DEVICES / address


def mdev(uuid: str) -> PurePosixPath:
    """Return a mediated device's directory.

    Raises:
        VgpuError: *uuid* is none, or not spelled as the kernel does.
    """
    if not re.fullmatch(_UUID, uuid):
        raise VgpuError(f"find {uuid[:40]!r}", meaning="no UUID of a mediated device")
    return MDEV_DEVICES / uuid
