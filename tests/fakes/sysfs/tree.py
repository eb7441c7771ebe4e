"""The tree of the kernel's files: a rendering of the machine, brought up to date at each access."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from nodeagent.api.gpunode import Mode
from nodeagent.vgpu import Sysfs
from nodeagent.vgpu.sysfs import MDEV_BUS, MDEV_DEVICES, PCI_DEVICES
from tests.fakes.sysfs.kernel import Kernel, KernelVgpu

FIRST_PID = 4000

CREATE, REMOVE = "vgpu_create", "vgpu_remove"
"""How faults and the call log name the writes."""

Entry = tuple[str, str]
"""("file", its text), ("link", its target), or ("no device", ""): reading it is ENXIO."""

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

    ``refused`` are paths that cannot be accessed, and the errno of that; ``texts`` what files say
    in place of the truth. ``at_write`` is called "before" and "after" each write's effect; what it
    raises cuts the writer off. *iommufd* is whether VMs open vGPUs in that way.
    """

    def __init__(
        self, directory: Path, kernel: Kernel, mode: Mode, *, iommufd: bool = False
    ) -> None:
        root = directory / f"tree-{os.getpid()}-{next(_serial)}"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        super().__init__(root)
        self.refused: dict[PurePosixPath, int] = {}
        self.texts: dict[PurePosixPath, str] = {}
        self.at_write: Callable[[str], None] = lambda when: None
        self._kernel = kernel
        self._mdev = mode is Mode.VGPU_MDEV
        self._iommufd = iommufd
        self._shown: dict[PurePosixPath, Entry] = {}
        self._rendered: object = None

    def upgrade(self) -> None:
        """Show vendor VFIO's files from now on in the place of mediated devices'."""
        self._mdev = False
        self._rendered = None

    @contextlib.contextmanager
    def _translated(self, verb: str, path: PurePosixPath) -> Iterator[None]:
        """Enclose an access of any kind: the tree is brought up to date before it."""
        self.render()
        with super()._translated(verb, path):
            if path in self.refused:
                raise OSError(self.refused[path], os.strerror(self.refused[path]))
            yield

    def _deliver(self, path: PurePosixPath, text: str) -> None:
        """Do what the kernel does upon a write."""
        if not (self.root / path).exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        self.at_write("before")
        self._written(path, text)
        self.at_write("after")

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
        else:
            vgpu = next(v for v in self._kernel.vgpus() if v.uuid == path.parent.name)
            with self._kernel.written(REMOVE, vgpu.gpu, text) as effective:
                if effective:
                    self._kernel.remove(vgpu.gpu, vgpu.function)

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
        true = (self._kernel.moment(), dict(self.texts))
        if true == self._rendered:
            return
        now = dict(self._true_entries())
        for path, text in self.texts.items():
            now[self._resolved(path)] = ("file", text)
        for path in self._shown.keys() - now.keys():
            self._remove(path)
        for path, entry in now.items():
            if self._shown.get(path) != entry:
                self._put(path, entry)
        self._shown = now
        self._rendered = true

    def _resolved(self, path: PurePosixPath) -> PurePosixPath:
        """Return where a file is that is found through a link."""
        real = os.path.realpath(self.root / path)
        return PurePosixPath(os.path.relpath(real, os.path.realpath(self.root)))

    def _put(self, path: PurePosixPath, entry: Entry) -> None:
        at = self.root / path
        kind, content = entry
        at.parent.mkdir(parents=True, exist_ok=True)
        at.unlink(missing_ok=True)
        if kind == "link":
            at.symlink_to(content)
        elif kind == "no device":
            os.mknod(at, stat.S_IFSOCK | 0o444)  # whoever opens a socket is told ENXIO
        else:
            at.write_text(content + "\n")

    def _remove(self, path: PurePosixPath) -> None:
        """Remove a file, and the directories that are empty without it."""
        at = self.root / path
        at.unlink(missing_ok=True)
        while at.parent != self.root and not any(at.parent.iterdir()):
            at = at.parent
            at.rmdir()

    def _true_entries(self) -> Iterator[tuple[PurePosixPath, Entry]]:
        yield PurePosixPath("proc/1/fd/0"), ("link", "/dev/null")
        vgpus = {(vgpu.gpu, vgpu.function): vgpu for vgpu in self._kernel.vgpus()}
        for gpu in range(len(self._kernel.machine.uuids)):
            yield PCI_DEVICES / gpu_address(gpu) / "remove", ("file", "")
            count = self._kernel.functions(gpu)
            types = self._kernel.types(gpu)
            creatable = {n: i for n, i in types.items() if i in self._kernel.creatable(gpu)}
            for function in range(1, count + 1):
                directory = PCI_DEVICES / function_address(gpu, function)
                link = PCI_DEVICES / gpu_address(gpu) / f"virtfn{function - 1}"
                yield link, ("link", f"../{directory.name}")
                yield directory / "remove", ("file", "")
                vgpu = vgpus.get((gpu, function))
                offered = {} if vgpu else creatable
                if self._mdev:
                    yield from _mdev_files(directory.name, types, offered)
                else:
                    yield from _vfio_files(directory, offered, vgpu)
                    yield from self._vfio_device(directory, gpu, function)
        for number, vgpu in enumerate(vgpus.values()):
            if self._mdev:
                yield from self._mdev_device(vgpu)
            if vgpu.opened:
                node = self.node(vgpu.gpu, vgpu.function)
                yield PurePosixPath(f"proc/{FIRST_PID + number}/fd/31"), ("link", node)

    def node(self, gpu: int, function: int) -> str:
        """Return the file that a VM opens of the vGPU on a function."""
        number = group_of(gpu, function)
        return f"/dev/vfio/devices/vfio{number}" if self._iommufd else f"/dev/vfio/{number}"

    def _vfio_device(
        self, directory: PurePosixPath, gpu: int, function: int
    ) -> Iterator[tuple[PurePosixPath, Entry]]:
        number = group_of(gpu, function)
        yield directory / "iommu_group", ("link", f"../../../../kernel/iommu_groups/{number}")
        if self._iommufd:
            yield directory / f"vfio-dev/vfio{number}/dev", ("file", f"511:{number}")

    def _mdev_device(self, vgpu: KernelVgpu) -> Iterator[tuple[PurePosixPath, Entry]]:
        address = function_address(vgpu.gpu, vgpu.function)
        home = PurePosixPath("sys/devices/pci0000:00") / address / vgpu.uuid
        target = f"../../../devices/pci0000:00/{address}/{vgpu.uuid}"
        yield MDEV_DEVICES / vgpu.uuid, ("link", target)
        files = {
            "remove": ("file", ""),
            "mdev_type": ("link", f"../mdev_supported_types/nvidia-{vgpu.type_id}"),
            "nvidia/gpu_instance_id": ("file", str(vgpu.gi_id)),
        }
        for name, entry in files.items():
            yield home / name, entry
        yield from self._vfio_device(home, vgpu.gpu, vgpu.function)


def _mdev_files(
    address: str, types: dict[str, int], creatable: dict[str, int]
) -> Iterator[tuple[PurePosixPath, Entry]]:
    for name, type_id in types.items():
        directory = MDEV_BUS / address / "mdev_supported_types" / f"nvidia-{type_id}"
        yield directory / "name", ("file", name)
        yield directory / "available_instances", ("file", str(int(name in creatable)))
        yield directory / "create", ("file", "")


def _vfio_files(
    directory: PurePosixPath, creatable: dict[str, int], vgpu: KernelVgpu | None
) -> Iterator[tuple[PurePosixPath, Entry]]:
    lines = [f"{type_id:<6}: {name}" for name, type_id in creatable.items()]
    backing = ("file", str(vgpu.gi_id)) if vgpu else ("no device", "")
    text = "\n".join(["ID    : vGPU Name", *lines])
    yield directory / "nvidia/creatable_vgpu_types", ("file", text)
    yield directory / "nvidia/current_vgpu_type", ("file", str(vgpu.type_id if vgpu else 0))
    yield directory / "nvidia/gpu_instance_id", backing
