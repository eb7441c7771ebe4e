"""What agents do to a node's GPUs by themselves, read from the machine's own log of calls.

Whoever calls NVML, in this process or another, is an agent: the fake controller's commands reach
the machine by another way. So is whoever writes the kernel's files, unless the write says whose it
is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from tests.fakes.nvml.machine import Machine
from tests.fakes.pcidevices import log as deeds
from tests.fakes.pcidevices.log import AGENT, Entry
from tests.fakes.sysfs.tree import CREATE, REMOVE, gpu_address

CONTROLLER: Final = "controller"
"""Whose a write of the kernel's files is, where it says so."""

_ACTIONS: Final[Mapping[str, str]] = {
    "nvmlDeviceSetMigMode": deeds.SET_MIG_MODE,
    "nvmlDeviceCreateGpuInstance": deeds.NVML_CREATE_ANYWHERE,
    "nvmlDeviceCreateGpuInstanceWithPlacement": deeds.NVML_CREATE,
    "nvmlGpuInstanceDestroy": deeds.NVML_DESTROY,
    "nvmlGpuInstanceCreateComputeInstance": deeds.NVML_FILL,
    "nvmlComputeInstanceDestroy": deeds.NVML_FILL,
    CREATE: deeds.KERNEL_WRITE,
    REMOVE: deeds.KERNEL_WRITE,
}


class DriverCalls:
    """The calls of *machine*, of the node of that name, that change something: each once."""

    def __init__(self, machine: Machine, node: str) -> None:
        self._path = machine.state.with_name(machine.state.name + ".log")
        self._node = node
        self._read = 0
        self._begun: dict[str, tuple[str, dict[str, str]]] = {}

    def fresh(self, at: float) -> Iterator[Entry]:
        """Yield those that have returned since the last time, dated *at*."""
        with self._path.open() as file:
            file.seek(self._read)
            text = file.read()
        whole, _, _ = text.rpartition("\n")  # a line may be being written
        self._read += len(whole) + 1 if whole else 0
        for line in whole.splitlines():
            mark, number, *rest = line.split(" ")
            if mark == ">" and rest[1] in _ACTIONS:
                arguments = dict(pair.split("=", 1) for pair in rest[2:] if "=" in pair)
                if arguments.get("by") != CONTROLLER:
                    self._begun[number] = _ACTIONS[rest[1]], arguments
            elif mark == "<" and number in self._begun:
                yield self._entry(at, *self._begun.pop(number), code=int(rest[0]))

    def _entry(self, at: float, action: str, arguments: Mapping[str, str], *, code: int) -> Entry:
        subject = f"{self._node} {gpu_address(int(arguments['gpu']))}"
        detail = " ".join(f"{k}={v}" for k, v in arguments.items() if k not in ("gpu", "by"))
        return Entry(at, AGENT, action, subject, detail, code=code)
