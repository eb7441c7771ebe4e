"""Turning MIG mode on. Nobody but an administrator's word sets this off."""

from __future__ import annotations

from nodeagent.driver import DriverError, InstanceInUse, NotSupported, ResetRequired
from nodeagent.nvml import gpus, quarantine
from nodeagent.nvml.errors import EVERYWHERE
from nodeagent.nvml.session import Nvml
from nodeagent.nvml.use import is_idle

ENABLE_MIG = "nvmlDeviceSetMigMode"

_DONE = 0


def enable(nvml: Nvml, gpu: str) -> str:
    """Turn MIG mode on on an idle GPU, and return what is still needed for it, "" if nothing.

    Before Hopper the mode waits for a reset of the GPU. What the driver says is not believed before
    the mode has been read again, through handles that were fetched again.

    Raises:
        NotSupported: the GPU has no MIG.
        InstanceInUse: the GPU is not idle; where only the driver sees that, the mode is left
            pending, and comes with the next reset.
        DriverError: anything else.
    """
    device = gpus.named(nvml, gpu)
    try:
        on, after_reset = gpus.mig_mode(nvml, device)
    except NotSupported as error:
        raise NotSupported(ENABLE_MIG, meaning=quarantine.NOT_MIG_CAPABLE) from error
    if on and after_reset:
        return ""
    if not after_reset:
        if not is_idle(nvml, device):
            raise InstanceInUse(ENABLE_MIG, detail="the GPU must be idle")
        status = gpus.set_mig_mode(nvml, device, on=True)
        on, after_reset = gpus.mig_mode(nvml, gpus.named(nvml, gpu))
        if status not in (_DONE, ResetRequired.code):
            told = quarantine.mig_pending(True) if after_reset else ""
            raise EVERYWHERE.get(status, DriverError)(ENABLE_MIG, code=status, detail=told)
        if not after_reset:
            raise DriverError(ENABLE_MIG, meaning="reported success, but the mode has not changed")
    return "" if on else quarantine.mig_pending(True)
