"""A node with fake GPUs: the machine behind the fake library, ``/proc``, ``/sys``, the driver."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import pynvml

from nodeagent.api.gpunode import Mode
from nodeagent.driver import LiveGpu
from nodeagent.nvml import Location, NvmlDriver
from tests.fakes.nvml.capabilities import write_mig_minors
from tests.fakes.nvml.library import STATE_VARIABLE, built_for_tests
from tests.fakes.nvml.machine import Machine


class Node:
    """A node in *directory*; where there is no gcc the test that wants one is skipped.

    One at a time: the library looks for its machine when it is initialised, and there is one
    library in a process. :meth:`close` it in the end.
    """

    def __init__(
        self,
        directory: Path,
        model: str,
        *,
        gpus: int = 1,
        mode: Mode = Mode.CONTAINER,
        mig: bool | None = True,
        within: float = 10.0,
        **options: Any,
    ) -> None:
        # All that one run of pytest needs the library for share it, whatever process they are in.
        shared = next(each for each in directory.parents if each.name.startswith("pytest-"))
        self.library = built_for_tests(shared / "fake-nvml")
        vgpu_host = mode is not Mode.CONTAINER
        self.machine = Machine.create(
            self.library, directory / "state", model, gpus=gpus, mig=mig, vgpu_host=vgpu_host
        )
        self._boot_id = directory / "proc/sys/kernel/random/boot_id"
        self._boot_id.parent.mkdir(parents=True)
        self._boot_id.write_text("boot-1\n")
        write_mig_minors(directory)
        self.root = directory
        os.environ[STATE_VARIABLE] = str(directory / "state")
        self._options: dict[str, Any] = {"root": directory, "within": within, **options}
        self._mode = mode
        self.driver = self._new_driver()

    def _new_driver(self) -> NvmlDriver:
        return NvmlDriver(Location(self.library), self._mode, **self._options)

    async def restart(self) -> None:
        """Let the driver begin anew, as it does in a restarted agent."""
        await self.driver.close()
        self.driver = self._new_driver()

    async def gpu(self, index: int = 0) -> LiveGpu:
        return (await self.driver.discover()).gpus[index]

    def set_mig_mode(self, index: int, on: bool) -> None:
        """Do what an administrator does: set MIG mode, then reset the GPU."""
        device = pynvml.nvmlDeviceGetHandleByUUID(self.machine.uuids[index].encode())
        pynvml.nvmlDeviceSetMigMode(device, int(on))
        self.machine.reset(index)

    def reboot(self) -> None:
        self.machine.reboot()
        self._boot_id.write_text(f"{self._boot_id.read_text().strip()}-after\n")

    async def close(self) -> None:
        self.machine.clear_faults()
        await self.driver.close()
        library = ctypes.CDLL(str(self.library))
        while library.nvmlShutdown() == 0:  # a fault may have left NVML open
            pass
        os.environ.pop(STATE_VARIABLE, None)
