"""How a GPU is, as its driver tells it when asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from nodeagent.driver import FunctionNotFound, NotSupported
from nodeagent.nvml import gpus
from nodeagent.nvml.gpus import Device
from nodeagent.nvml.session import Nvml

T = TypeVar("T")


class Signs(msgspec.Struct, frozen=True):
    """What the driver says of one GPU; None is what it does not tell of this one, or just now.

    ``remap_pending`` and ``remap_failed`` are about memory rows, which no driver tells of while the
    GPU has GPU instances (nvml.h); ``retirement_pending`` is about memory pages. ``uncorrected``
    counts the memory errors since the GPU's last reset that ECC could not correct.
    ``recovery_action`` is NVML's number of what should be done, 0 for nothing.
    """

    mig_on: bool = True
    mig_on_after_reset: bool = True
    remap_pending: bool | None = None
    remap_failed: bool | None = None
    retirement_pending: bool | None = None
    uncorrected: int | None = None
    recovery_action: int | None = None


def signs(nvml: Nvml, device: Device) -> Signs:
    """Return how a MIG-capable GPU is now."""
    on, after_reset = gpus.mig_mode(nvml, device)
    remaps = _told(gpus.remapped_rows, nvml, device)
    return Signs(
        mig_on=on,
        mig_on_after_reset=after_reset,
        remap_pending=remaps and remaps[0],
        remap_failed=remaps and remaps[1],
        retirement_pending=_told(gpus.retirement_pending, nvml, device),
        uncorrected=_told(gpus.uncorrected_errors, nvml, device),
        recovery_action=_told(gpus.recovery_action, nvml, device),
    )


def _told(ask: Callable[[Nvml, Device], T], nvml: Nvml, device: Device) -> T | None:
    try:
        return ask(nvml, device)
    except (NotSupported, FunctionNotFound):
        return None
