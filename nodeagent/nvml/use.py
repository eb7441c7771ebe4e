"""Which GPU instances are in use, as far as NVML can see.

It sees processes that compute or draw, and vGPUs that run in a VM. It does not see a device that
is merely open, a vGPU that no VM has started, a monitor that keeps a handle (DCGM was seen to), or
processes of other containers unless the agent shares the node's PIDs. Most of these the driver
itself refuses to destroy under; the agent adds the claims of pods that it knows of.
"""

from __future__ import annotations

from collections.abc import Iterator

from nodeagent.driver import FunctionNotFound, NoPermission, NotSupported
from nodeagent.nvml import gpus, vgpus
from nodeagent.nvml.gpus import Device
from nodeagent.nvml.session import Nvml


def in_use(nvml: Nvml, device: Device) -> frozenset[int]:
    """Return the ids of the GPU instances that something is seen to use."""
    return frozenset(_users(nvml, device)) - {gpus.WHOLE_GPU}


def is_idle(nvml: Nvml, device: Device) -> bool:
    """Tell whether nothing is seen to use a GPU, be it a part of it or the whole."""
    return next(_users(nvml, device), None) is None


def _users(nvml: Nvml, device: Device) -> Iterator[int]:
    """Yield what each user uses: the id of a GPU instance, or ``WHOLE_GPU``."""
    for users in (gpus.computing, gpus.drawing, vgpus.active):
        try:
            yield from users(nvml, device)
        except (NotSupported, FunctionNotFound, NoPermission):
            continue  # not on this GPU, by this driver, or for this process: nothing is seen
