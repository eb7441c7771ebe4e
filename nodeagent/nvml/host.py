"""What the kernel tells of the node: its boot, and how far each GPU is from its CPUs."""

from __future__ import annotations

from pathlib import Path

from nodeagent.driver import DriverError

BOOT_ID = "proc/sys/kernel/random/boot_id"


def boot_id(root: Path) -> str:
    """Return the id of this boot; *root* is where ``/proc`` and ``/sys`` are.

    Raises:
        DriverError: it cannot be read.
    """
    try:
        return (root / BOOT_ID).read_text().strip()
    except OSError as error:
        meaning = "the node's boot is not known"
        raise DriverError(f"/{BOOT_ID}", meaning=meaning, detail=str(error.strerror)) from error


def numa_node(root: Path, pci_address: str) -> int:
    """Return the NUMA node of a PCI device, -1 if it has none or the kernel does not tell."""
    try:
        return int((root / "sys/bus/pci/devices" / pci_address / "numa_node").read_text())
    except (OSError, ValueError):
        return -1


def pci_address(bus_id: str) -> str:
    """Return a PCI address as the kernel writes it, from NVML's wider spelling.

    >>> pci_address("00000000:3B:00.0")
    '0000:3b:00.0'
    """
    domain, rest = bus_id.lower().split(":", 1)
    return f"{int(domain, 16):04x}:{rest}"
