"""Which device files a container has to open to use a MIG device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nodeagent.driver import DriverError, NotSupported

MIG_MINORS = "proc/driver/nvidia-caps/mig-minors"
"""The kernel driver's table of capabilities, one a line: ``gpu0/gi1/ci0/access 14``."""

_ALWAYS = ("/dev/nvidiactl", "/dev/nvidia-uvm")
_WHERE_PRESENT = ("/dev/nvidia-uvm-tools",)  # for profilers; drivers do not always make it

Minors = Mapping[str, int]
"""The minor number of the device file of each capability of a GPU, such as ``gi1/ci0/access``."""


def minors(root: Path, gpu: int) -> Minors:
    """Return the capabilities of the GPU with that minor number; *root* is where ``/proc`` is.

    Raises:
        NotSupported: the kernel driver does not tell them, so that no MIG device can be handed out.
        DriverError: they cannot be understood.
    """
    try:
        lines = (root / MIG_MINORS).read_text().splitlines()
    except OSError as error:
        meaning = "the device files of GPU instances are not told"
        raise NotSupported(f"/{MIG_MINORS}", meaning=meaning, detail=str(error.strerror)) from error
    prefix = f"gpu{gpu}/"
    pairs = (line.removeprefix(prefix).split() for line in lines if line.startswith(prefix))
    try:
        return {name: int(minor) for name, minor in pairs}
    except ValueError as error:
        raise DriverError(f"/{MIG_MINORS}", meaning="not a table of capabilities") from error


def of_mig_device(
    root: Path, known: Minors, *, gpu: int, gi_id: int, ci_id: int
) -> tuple[str, ...]:
    """Return the files of a compute instance, *gpu* being its GPU's minor number.

    Raises:
        DriverError: the kernel driver knows no such GPU instance or compute instance.
    """
    try:
        caps = [known[f"gi{gi_id}/access"], known[f"gi{gi_id}/ci{ci_id}/access"]]
    except KeyError as error:
        meaning = "the device files of a GPU instance are not told"
        name = f"gpu{gpu}/{error.args[0]}"
        raise DriverError(f"/{MIG_MINORS}", meaning=meaning, detail=name) from error
    present = (file for file in _WHERE_PRESENT if (root / file.removeprefix("/")).exists())
    return (
        *_ALWAYS,
        *present,
        f"/dev/nvidia{gpu}",
        *(f"/dev/nvidia-caps/nvidia-cap{minor}" for minor in caps),
    )
