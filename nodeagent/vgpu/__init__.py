"""vGPUs on MIG-backed GPU instances, made and taken away through the kernel's files.

``driver`` offers them with the GPU instances that NVML knows. ``join`` says which vGPU is whose,
from the ``record``; ``change`` makes and removes them. ``mdev`` and ``vfio`` are the kernel's two
interfaces behind the Protocol in ``interface``; ``sysfs`` is the one way to the files.

The driver, not the writer, chooses which free GPU instance backs a new vGPU. So a vGPU is made only
while the one meant for it is the only candidate, and its choice is read back.
"""

from nodeagent.vgpu.driver import VgpuDriver
from nodeagent.vgpu.sriov import enable_sriov
from nodeagent.vgpu.sysfs import Sysfs

__all__ = ["Sysfs", "VgpuDriver", "enable_sriov"]
