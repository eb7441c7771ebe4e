"""The tree of the kernel's files: a rendering of the machine, brought up to date at each access."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from nodeagent.api.gpunode import Mode
from nodeagent.driver import VgpuError
from nodeagent.vgpu import Sysfs
from tests.fakes.sysfs.kernel import Kernel, KernelVgpu

PCI = PurePosixPath("sys/bus/pci/devices")
MDEV_BUS = PurePosixPath("sys/class/mdev_bus")
MDEV_DEVICES = PurePosixPath("sys/bus/mdev/devices")
FIRST_PID = 4000

CREATE, REMOVE = "vgpu_create", "vgpu_remove"
"""How faults and the call log name the writes."""

Entry = tuple[str, str]
"""("file", its text) or ("link", its target)."""

_serial = itertools.count()


def gpu_address(gpu: int) -> str:
    """Return the PCI address of a fake machine's GPU."""
    return f"0000:{0x10 + gpu:02x}:00.0"


def function_address(gpu: int, function: int) -> str:
    """Return that of its virtual function: they begin four functions on."""
    slot, number = divmod(3 + function, 8)
    return f"0000:{0x10 + gpu:02x}:{slot:02x}.{number}"


def group_of(gpu: int, function: int) -> int:
    """Return the IOMMU group of a virtual function."""
    return 100 + gpu * 64 + function


class FakeSysfs(Sysfs):
    """A tree in a new folder of *directory*, one for each process that looks at it.

    ``torn_off`` counts writes to a function's own ``remove``, which would have taken it off the bus.
    """

    def __init__(self, directory: Path, kernel: Kernel, mode: Mode) -> None:
        root = directory / f"tree-{os.getpid()}-{next(_serial)}"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        super().__init__(root)
        self.torn_off = 0
        self._kernel = kernel
        self._mdev = mode is Mode.VGPU_MDEV
        self._shown: dict[PurePosixPath, Entry] = {}

    def read(self, path: PurePosixPath) -> str:
        """Return a file's text; some files have an error in place of one."""
        self.render()
        if self._shown.get(path) == ("file", "ENXIO"):
            raise VgpuError(f"read /{path}", code=errno.ENXIO)
        return super().read(path)

    def names(self, path: PurePosixPath) -> tuple[str, ...]:
        """Return the names in a directory."""
        self.render()
        return super().names(path)

    def exists(self, path: PurePosixPath) -> bool:
        """Tell whether there is such a file."""
        self.render()
        return super().exists(path)

    def target(self, path: PurePosixPath) -> PurePosixPath:
        """Return where a link points."""
        self.render()
        return super().target(path)

    def opened(self) -> frozenset[str]:
        """Return what the VMs have open."""
        self.render()
        return super().opened()

    def write(self, path: PurePosixPath, text: str) -> None:
        """Do what the kernel does upon a write."""
        self.render()
        with self._translated("write", path):
            if path not in self._shown:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            self._written(path, text)

    def _written(self, path: PurePosixPath, text: str) -> None:
        if path.name == "create":
            gpu, function = self._where(path.parents[2].name)
            type_id = int(path.parent.name.removeprefix("nvidia-"))
            with self._kernel.written(CREATE, gpu, text) as effective:
                if effective:
                    self._kernel.create(gpu, function, type_id, text)
        elif path.name == "current_vgpu_type":
            gpu, function = self._where(path.parents[1].name)
            with self._kernel.written(CREATE if int(text) else REMOVE, gpu, text) as effective:
                if effective and int(text):
                    self._kernel.create(gpu, function, int(text))
                elif effective:
                    self._kernel.remove(gpu, function)
        elif path.name == "remove" and path.parts[:4] == MDEV_DEVICES.parts:
            vgpu = next(v for v in self._kernel.vgpus() if v.uuid == path.parent.name)
            with self._kernel.written(REMOVE, vgpu.gpu, text) as effective:
                if effective:
                    self._kernel.remove(vgpu.gpu, vgpu.function)
        elif path.name == "remove":
            self.torn_off += 1
        else:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def _where(self, address: str) -> tuple[int, int]:
        return next(
            (gpu, function)
            for gpu in range(len(self._kernel.machine.uuids))
            for function in range(1, self._kernel.functions(gpu) + 1)
            if function_address(gpu, function) == address
        )

    # -- rendering ---------------------------------------------------------------------------------

    def render(self) -> None:
        """Bring the tree up to date."""
        now = dict(self._entries())
        for path in self._shown.keys() - now.keys():
            self._remove(path)
        for path, entry in now.items():
            if self._shown.get(path) != entry:
                self._put(path, entry)
        self._shown = now

    def _put(self, path: PurePosixPath, entry: Entry) -> None:
        at = self.root / path
        kind, content = entry
        if kind == "link":
            at.parent.mkdir(parents=True, exist_ok=True)
            at.unlink(missing_ok=True)
            at.symlink_to(content)
        else:
            at.parent.mkdir(parents=True, exist_ok=True)
            at.write_text(content + "\n")

    def _remove(self, path: PurePosixPath) -> None:
        """Remove a file, and the directories that are empty without it."""
        at = self.root / path
        at.unlink(missing_ok=True)
        while at.parent != self.root and not any(at.parent.iterdir()):
            at = at.parent
            at.rmdir()

    def _entries(self) -> Iterator[tuple[PurePosixPath, Entry]]:
        vgpus = {(vgpu.gpu, vgpu.function): vgpu for vgpu in self._kernel.vgpus()}
        for gpu in range(len(self._kernel.machine.uuids)):
            yield PCI / gpu_address(gpu) / "remove", ("file", "")
            count = self._kernel.functions(gpu)
            types = self._kernel.types(gpu) if count else {}
            creatable = {n: i for n, i in types.items() if self._kernel.creatable(gpu, i)}
            for function in range(1, count + 1):
                address = function_address(gpu, function)
                link = PCI / gpu_address(gpu) / f"virtfn{function - 1}"
                yield link, ("link", f"../{address}")
                yield PCI / address / "remove", ("file", "")
                vgpu = vgpus.get((gpu, function))
                if self._mdev:
                    yield from _mdev_files(address, types, {} if vgpu else creatable)
                else:
                    group = f"../../../../kernel/iommu_groups/{group_of(gpu, function)}"
                    yield PCI / address / "iommu_group", ("link", group)
                    yield from _vfio_files(address, creatable, vgpu)
        for number, vgpu in enumerate(vgpus.values()):
            if self._mdev:
                yield from _mdev_device(vgpu)
            if vgpu.opened:
                node = f"/dev/vfio/{group_of(vgpu.gpu, vgpu.function)}"
                at = PurePosixPath(f"proc/{FIRST_PID + number}/fd/31")
                yield at, ("link", node)


def _mdev_files(
    address: str, types: dict[str, int], creatable: dict[str, int]
) -> Iterator[tuple[PurePosixPath, Entry]]:
    for name, type_id in types.items():
        directory = MDEV_BUS / address / "mdev_supported_types" / f"nvidia-{type_id}"
        yield directory / "name", ("file", name)
        yield directory / "available_instances", ("file", str(int(name in creatable)))
        yield directory / "create", ("file", "")


def _mdev_device(vgpu: KernelVgpu) -> Iterator[tuple[PurePosixPath, Entry]]:
    address = function_address(vgpu.gpu, vgpu.function)
    directory = PurePosixPath("sys/devices/pci0000:00") / address / vgpu.uuid
    target = f"../../../devices/pci0000:00/{address}/{vgpu.uuid}"
    yield MDEV_DEVICES / vgpu.uuid, ("link", target)
    group = f"../../../../kernel/iommu_groups/{group_of(vgpu.gpu, vgpu.function)}"
    for base in (directory, MDEV_DEVICES / vgpu.uuid):  # the same files, by both their names
        yield base / "remove", ("file", "")
        yield base / "iommu_group", ("link", group)
        yield base / "nvidia/gpu_instance_id", ("file", str(vgpu.gi_id))


def _vfio_files(
    address: str, creatable: dict[str, int], vgpu: KernelVgpu | None
) -> Iterator[tuple[PurePosixPath, Entry]]:
    directory = PCI / address / "nvidia"
    offered = {} if vgpu else creatable
    lines = [f"{type_id:<6}: {name}" for name, type_id in offered.items()]
    text = "\n".join(["ID    : vGPU Name", *lines])
    yield directory / "creatable_vgpu_types", ("file", text)
    yield directory / "current_vgpu_type", ("file", str(vgpu.type_id if vgpu else 0))
    yield directory / "gpu_instance_id", ("file", str(vgpu.gi_id) if vgpu else "ENXIO")
