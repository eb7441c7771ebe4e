"""Letting go of all GPUs while Harvester needs one with nobody at it (``courtesy`` says when)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import structlog

from nodeagent.driver import Driver, DriverError, GivingWay, Host, LiveGpu
from nodeagent.harvester.courtesy import ENABLE, Courtesy, Patience, needs
from nodeagent.harvester.door import HarvesterObjects
from nodeagent.harvester.kernel import Kernel
from nodeagent.harvester.objects import SriovGpuDevice
from nodeagent.vgpu.worker import Worker

log = structlog.get_logger()

LOOK = "look at the GPUs"
FUNCTIONS = "list the virtual functions"

UNREAD = "whether Harvester needs a GPU left alone is not known yet"
"""Why NVML is shut from the start: as long as Harvester's objects have not been read."""


class ShutDriver(Driver, Protocol):
    """A driver that can let go of all GPUs, so that nobody of this process is at one."""

    async def shut(self, reason: str) -> None:
        """Let go of them, and refuse all calls (:class:`GivingWay`) until :meth:`reopen`."""

    def reopen(self) -> None:
        """Let the next call open them."""


class GiveWay:
    """Shuts *gpus* and opens them again; *clock* counts seconds, *worker* runs what blocks."""

    def __init__(
        self,
        gpus: ShutDriver,
        objects: HarvesterObjects,
        kernel: Kernel,
        worker: Worker,
        patience: Patience,
        clock: Callable[[], float],
    ) -> None:
        self._gpus = gpus
        self._objects = objects
        self._kernel = kernel
        self._worker = worker
        self._courtesy = Courtesy(patience)
        self._clock = clock
        self._shown: dict[str, LiveGpu] = {}
        self._had_functions: dict[str, bool] = {}

    def shown(self, host: Host) -> None:
        """Take note of how NVML shows the GPUs."""
        self._shown = {gpu.pci_address: gpu for gpu in host.gpus}

    async def leave_alone(self, gpu: SriovGpuDevice) -> None:
        """Let go of all GPUs, for *gpu* is about to be given virtual functions.

        Raises:
            DriverError: they may still be open, so it must not be.
        """
        await self._gpus.shut(f"{gpu.head.name}: {ENABLE}")
        self._courtesy.expect(gpu.head.name, ENABLE, now=self._clock())

    async def settle(self) -> None:
        """Let go of all GPUs while Harvester needs one left alone; else let them be opened.

        Raises:
            GivingWay: it does.
            DriverError: it does, and some GPU may still be open; or nobody knows.
        """
        objects = self._objects.now()
        addresses = [each.address for each in objects.gpus]
        counts = await self._worker.run(FUNCTIONS, lambda: self._kernel.functions(addresses))
        have = {address: count > 0 for address, count in counts.items()}
        for address in self._shown.keys() & have.keys():
            if have[address] != self._had_functions.get(address):
                del self._shown[address]  # it has come back as another
        self._had_functions = have
        found, now = needs(objects, counts, self._shown), self._clock()
        heeded = self._courtesy.heeded(found, now=now)
        if not heeded:
            self._gpus.reopen()
            return
        told = "; ".join(f"{name}: {what}" for name, what in sorted(heeded.items()))
        await self._gpus.shut(told)
        due = self._courtesy.prompts(heeded, now=now)
        for each in objects.gpus:
            if each.head.name in due:
                await self._prompt(each, heeded[each.head.name])
        raise GivingWay(LOOK, detail=told)

    async def _prompt(self, gpu: SriovGpuDevice, reason: str) -> None:
        log.info("gpus_left_alone", gpu=gpu.head.name, reason=reason)
        try:
            await self._objects.prompt(gpu)
        except DriverError as error:  # Harvester tries again by itself
            log.warning("harvester_not_prompted", gpu=gpu.head.name, error=str(error))
