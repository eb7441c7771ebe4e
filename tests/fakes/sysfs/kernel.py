"""The vGPUs of a fake machine, as its kernel handles them; see ``source/kernel.c``."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent.api.catalog import MODELS
from tests.fakes.nvml.machine import Kind, Machine

_MAX_VGPUS = 128


class _Shown(ctypes.Structure):
    """``struct shown`` of kernel.c."""

    _fields_ = (
        *((name, ctypes.c_uint32) for name in ("function", "gi", "type", "opened")),
        ("uuid", ctypes.c_char * 64),
    )


@dataclass(frozen=True)
class KernelVgpu:
    """A vGPU on the *function*-th virtual function (from 1) of a GPU; ``uuid`` is an mdev's."""

    gpu: int
    function: int
    gi_id: int
    type_id: int
    opened: bool
    uuid: str


class Kernel:
    """What the kernel and the vGPU driver do with *machine*'s GPUs.

    The driver's choice among GPU instances is *arbitrary*: the rank of the one it takes.
    """

    def __init__(self, machine: Machine, arbitrary: int = 0) -> None:
        self.machine = machine
        self.arbitrary = arbitrary
        self._types: dict[str, dict[str, int]] = {}

    def enable_functions(self, gpu: int, count: int) -> None:
        """Give a GPU its virtual functions; whatever it holds is gone."""
        self._call("fake_enable_functions", gpu, count)

    def functions(self, gpu: int) -> int:
        """Return how many virtual functions a GPU has."""
        return self._call("fake_functions", gpu)

    def types(self, gpu: int) -> dict[str, int]:
        """Return the number of each MIG-backed vGPU type of a GPU, by name."""
        name = self.machine.models[gpu]
        if name not in self._types:
            model = self.machine._control.fake_model(name.encode())
            find = self.machine._control.fake_vgpu_type
            self._types[name] = {
                each.name: int(find(model, each.name.encode())) for each in MODELS[name].vgpu_types
            }
        return self._types[name]

    def creatable(self, gpu: int) -> tuple[int, ...]:
        """Return the types for which there is a free GPU instance on the GPU."""
        types = self.types(gpu).values() if self.functions(gpu) else ()
        return tuple(each for each in types if self._call("fake_vgpu_creatable", gpu, each))

    def moment(self) -> object:
        """Return all that the files can tell now."""
        gpus = range(len(self.machine.uuids))
        return self.vgpus(), [(self.functions(gpu), self.creatable(gpu)) for gpu in gpus]

    def vgpus(self) -> list[KernelVgpu]:
        """Return every vGPU on a virtual function."""
        found = []
        for gpu in range(len(self.machine.uuids)):
            shown = (_Shown * _MAX_VGPUS)()
            count = self._call("fake_vgpus", gpu, shown)
            found += [
                KernelVgpu(gpu, s.function, s.gi, s.type, bool(s.opened), s.uuid.decode())
                for s in shown[:count]
            ]
        return found

    def create(self, gpu: int, function: int, type_id: int, uuid: str = "") -> None:
        """Make a vGPU, by the driver's rules.

        Raises:
            OSError: it refuses.
        """
        self._checked("fake_vgpu_create", gpu, function, type_id, uuid.encode(), self.arbitrary)

    def remove(self, gpu: int, function: int) -> None:
        """Take a vGPU away; an open one is busy."""
        self._checked("fake_vgpu_remove", gpu, function)

    def open(self, gpu: int, function: int, opened: bool = True) -> None:
        """Let a VM open the vGPU, or close it."""
        self._checked("fake_vgpu_open", gpu, function, int(opened))

    @contextlib.contextmanager
    def written(self, symbol: str, gpu: int, text: str, *, by: str = "") -> Iterator[bool]:
        """Enclose the effect of a write: log it, and do to it what a fault of the machine says.

        *by* is for the log: who wrote, where that is told otherwise.
        Yields whether the effect is to take place.
        """
        fault = (ctypes.c_uint32 * 3)()
        take = self.machine._control.fake_take_fault
        take.restype = ctypes.c_uint64
        number = take(self.machine._machine, symbol.encode(), gpu, fault)
        kind, code, milliseconds = fault
        self._log(f"> {number} {os.getpid()} {symbol} gpu={gpu} by={by} text={text}")
        if kind == Kind.HANG:
            self._hang(milliseconds)
        if kind == Kind.KILL_BEFORE:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            if kind == Kind.ERROR:
                raise OSError(code, os.strerror(code))
            yield kind != Kind.NOT_DONE
            if kind == Kind.KILL_AFTER:
                os.kill(os.getpid(), signal.SIGKILL)
            if kind == Kind.DONE_BUT_ERROR:
                raise OSError(code, os.strerror(code))
        except OSError as error:
            self._log(f"< {number} {error.errno}")
            raise
        self._log(f"< {number} 0")

    def _hang(self, milliseconds: int) -> None:
        releases = self._call("fake_releases")
        until = time.monotonic() + milliseconds / 1000
        while time.monotonic() < until and self._call("fake_releases") == releases:
            time.sleep(0.001)

    def _log(self, line: str) -> None:
        file = os.open(self.machine._log_path, os.O_WRONLY | os.O_APPEND)
        os.write(file, f"{line}\n".encode())
        os.close(file)

    def _call(self, name: str, *arguments: object) -> int:
        function = getattr(self.machine._control, name)
        if name == "fake_releases":
            function.restype = ctypes.c_uint64
        return int(function(self.machine._machine, *arguments))

    def _checked(self, name: str, *arguments: object) -> None:
        code = self._call(name, *arguments)
        if code:
            raise OSError(code, os.strerror(code))
