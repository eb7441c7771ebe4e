"""Which GPU instances are in use, as far as NVML can see.

It sees processes that compute or draw, and vGPUs that run in a VM. It does not see a device that
is merely open, a vGPU that no VM has started, a monitor that keeps a handle (DCGM was seen to), or
processes of other containers unless the agent shares the node's PIDs. Most of these the driver
itself refuses to destroy under; the agent adds the claims of pods that it knows of.
"""

from __future__ import annotations

from nodeagent.driver import FunctionNotFound, NoPermission, NotSupported
from nodeagent.nvml import gpus, vgpus
from nodeagent.nvml.gpus import Device
from nodeagent.nvml.session import Nvml


def in_use(nvml: Nvml, device: Device) -> frozenset[int]:
    """Return the ids of the GPU instances that something is seen to use."""
    found: set[int] = set()
    for users in (gpus.computing, gpus.drawing, vgpus.active):
        try:
            found.update(users(nvml, device))
        except (NotSupported, FunctionNotFound, NoPermission):
            continue  # not on this GPU, by this driver, or for this process: nothing is seen
    return frozenset(found - {gpus.WHOLE_GPU})
