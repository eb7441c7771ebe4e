"""The vGPUs there are, read from the kernel's files; nothing is ever written there.

Which of the kernel's interfaces there is, it shows by itself: an upgrade from Harvester 1.7 to 1.8
changes it under us.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import structlog

from nodeagent.driver import VgpuError
from nodeagent.vgpu.functions import functions
from nodeagent.vgpu.interface import Interface
from nodeagent.vgpu.join import Seen
from nodeagent.vgpu.mdev import Mdev
from nodeagent.vgpu.sysfs import MDEV_BUS, Sysfs
from nodeagent.vgpu.vfio import VendorVfio

log = structlog.get_logger()


class Kernel:
    """What the files in *sysfs* tell. Calls block."""

    def __init__(self, sysfs: Sysfs) -> None:
        self._sysfs = sysfs
        self._mdev = Mdev(sysfs)
        self._vfio = VendorVfio(sysfs)

    def look(self, addresses: Mapping[str, str]) -> tuple[dict[str, Seen], frozenset[str]]:
        """Return what there is on each GPU, given their PCI addresses, and every opened file.

        Files that cannot be read are the trouble of their GPU alone.

        Raises:
            DriverError: it is not known which files are open.
        """
        interface = self._mdev if self._sysfs.names(MDEV_BUS) else self._vfio
        seen = {uuid: self._seen(interface, each) for uuid, each in addresses.items()}
        return seen, self._sysfs.opened()

    def functions(self, addresses: Iterable[str]) -> dict[str, int]:
        """Return how many virtual functions each GPU has whose files can be read, by address."""
        found: dict[str, int] = {}
        for each in addresses:
            try:
                found[each] = len(functions(self._sysfs, each))
            except VgpuError as error:
                log.warning("functions_not_readable", address=each, error=str(error))
        return found

    def _seen(self, interface: Interface, gpu_address: str) -> Seen:
        try:
            count = len(functions(self._sysfs, gpu_address))
            return Seen(count, interface.existing(gpu_address))
        except VgpuError as error:
            log.warning("vgpus_not_readable", address=gpu_address, error=str(error))
            return Seen(trouble=str(error))
