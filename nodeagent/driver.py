"""What the agent asks of a GPU driver, and how a driver says no.

Every driver implements :class:`Driver` and passes the same exam: the simulated one, and NVML.
Errors carry the call and NVML's code, so a report reads the same whichever driver raised it::

    DriverError                anything else: its own code, 999 where there is none
    ├── InvalidPlacement       no such profile or start (NVML_ERROR_INVALID_ARGUMENT, 2)
    ├── NotSupported           this GPU or driver cannot do that (NVML_ERROR_NOT_SUPPORTED, 3)
    │   └── MigDisabled        MIG mode is off (3)
    ├── NoPermission           this process may not do that (NVML_ERROR_NO_PERMISSION, 4)
    ├── NoSuchInstance         the GPU instance is gone (NVML_ERROR_NOT_FOUND, 6)
    ├── DriverNotLoaded        the kernel driver is not there (…_DRIVER_NOT_LOADED, 9)
    ├── DriverTimeout          no answer in time: what became of the call is unknown (…_TIMEOUT, 10)
    ├── LibraryNotFound        there is no NVML library to load (…_LIBRARY_NOT_FOUND, 12)
    ├── FunctionNotFound       the driver is too old for the call (…_FUNCTION_NOT_FOUND, 13)
    ├── GpuLost                fallen off the bus, or unknown (NVML_ERROR_GPU_IS_LOST, 15)
    ├── ResetRequired          nothing works before a GPU reset (…_RESET_REQUIRED, 16)
    ├── VersionMismatch        library and kernel driver differ (…_LIB_RM_VERSION_MISMATCH, 18)
    ├── InstanceInUse          a client still holds it (NVML_ERROR_IN_USE, 19)
    │   └── StillLeaving       nobody uses it, and its device is being taken away (19)
    ├── PlacementUnavailable   occupied, or its count is used up (…_INSUFFICIENT_RESOURCES, 23)
    ├── DriverBusy             not begun: an earlier call has not returned (…_NOT_READY, 27)
    │   └── GivingWay          not begun: somebody else needs the GPUs with nobody at them (27)
    └── VgpuError              the kernel refused a step of a vGPU's life (its errno)
        └── RivalCandidate     the driver might back the vGPU with another GPU instance
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from nodeagent.api import resources
from nodeagent.api.geometry import Geometry, Placement
from nodeagent.api.gpunode import Layout, Mode, OwnerRef, VgpuType

CREATE = "nvmlDeviceCreateGpuInstanceWithPlacement"
DESTROY = "nvmlGpuInstanceDestroy"
DISCOVER = "nvmlDeviceGetGpuInstances"
"""How errors name the calls below: by the NVML call at the heart of each."""

SRIOV_DISABLED = "SR-IOV is not enabled: the GPU has no virtual functions (see --enable-sriov)"
"""Why a GPU that is well otherwise can take no vGPU: what :attr:`LiveGpu.unhealthy` then says."""


class DriverError(Exception):
    """The driver refused a call, or failed in it.

    *code* and *meaning* are for what has no class of its own, *detail* is added to either.
    """

    code = 999
    meaning = "unknown error"

    def __init__(
        self, call: str, *, code: int | None = None, meaning: str = "", detail: str = ""
    ) -> None:
        self.call = call
        self.detail = detail
        self.code = type(self).code if code is None else code
        self.meaning = meaning or type(self).meaning
        super().__init__(f"{self._told()}: {detail}" if detail else self._told())

    def _told(self) -> str:
        return f"{self.call}: {self.meaning} (NVML error {self.code})"


class InvalidPlacement(DriverError):
    """The GPU has no such profile, or the profile may not start there."""

    code = 2
    meaning = "no such profile or start"


class NotSupported(DriverError):
    """This GPU, or its driver, cannot do that."""

    code = 3
    meaning = "not supported"


class MigDisabled(NotSupported):
    """MIG mode is not enabled on the GPU."""

    code = 3
    meaning = "MIG mode is off"


class NoPermission(DriverError):
    """This process may not do that."""

    code = 4
    meaning = "no permission"


class NoSuchInstance(DriverError):
    """The GPU instance does not exist (any more)."""

    code = 6
    meaning = "no such GPU instance"


class DriverNotLoaded(DriverError):
    """The kernel driver is not there, or not talking to any GPU."""

    code = 9
    meaning = "the NVIDIA driver is not loaded"


class DriverTimeout(DriverError):
    """The driver did not answer in time; what became of the call is unknown."""

    code = 10
    meaning = "no answer in time"


class LibraryNotFound(DriverError):
    """There is no NVML library to load."""

    code = 12
    meaning = "libnvidia-ml.so.1 cannot be loaded"


class FunctionNotFound(DriverError):
    """The installed driver is too old to know the call."""

    code = 13
    meaning = "the installed driver does not know the call"


class GpuLost(DriverError):
    """The GPU has fallen off the bus, or was never there."""

    code = 15
    meaning = "GPU is lost"


class ResetRequired(DriverError):
    """The GPU must be reset before anything works on it."""

    code = 16
    meaning = "the GPU must be reset"


class VersionMismatch(DriverError):
    """The NVML library and the kernel driver are of different versions."""

    code = 18
    meaning = "library and kernel driver are of different versions"


class InstanceInUse(DriverError):
    """A client still holds the GPU instance."""

    code = 19
    meaning = "in use by a client"


class StillLeaving(InstanceInUse):
    """Nobody uses the GPU instance, and its device is being taken away by somebody else."""

    code = 19
    meaning = "its device is being taken away"


class PlacementUnavailable(DriverError):
    """The slices are taken, or the GPU holds as many GPU instances of the profile as it may."""

    code = 23
    meaning = "insufficient resources at that placement"


class DriverBusy(DriverError):
    """The call was not begun, for an earlier one has not returned."""

    code = 27
    meaning = "not begun"


class GivingWay(DriverBusy):
    """The call was not begun, for somebody else needs the GPUs with nobody at them."""

    code = 27
    meaning = "not begun, for somebody else needs the GPUs with nobody at them"


class VgpuError(DriverError):
    """The kernel, or the vGPU driver behind its files, refused a step of a vGPU's life.

    *code* is an ``errno``, 0 where there is none.
    """

    def __init__(self, call: str, *, code: int = 0, meaning: str = "", detail: str = "") -> None:
        name = errno.errorcode.get(code, str(code))
        words = f"{os.strerror(code)} ({name})" if code else self.meaning
        super().__init__(call, code=code, meaning=meaning or words, detail=detail)

    def _told(self) -> str:
        return f"{self.call}: {self.meaning}"  # which tells the errno, and that is none of NVML's


class RivalCandidate(VgpuError):
    """Another GPU instance of the profile is free on the GPU, and the driver might take that."""

    meaning = "another free GPU instance of the profile is on this GPU, and the driver chooses"


class LiveDevice(msgspec.Struct, frozen=True):
    """What a VM or a container is handed of a GPU instance.

    ``id`` is a vGPU's UUID (mdev), its virtual function's PCI address (vendor VFIO) or a MIG
    device's UUID; ``nodes`` are the device files that whoever uses it has to open.
    """

    id: str
    nodes: tuple[str, ...] = ()


class LiveInstance(msgspec.Struct, frozen=True):
    """A GPU instance as the driver lists it now. Ids are reused: never a fencing token.

    Without a ``device`` it cannot be handed out: its creation was cut short, its device was taken
    away, or it is somebody else's and free.

    Where devices are made by somebody else (Harvester): ``serves`` are the names by which its
    device is asked for, ``keepers`` whose it stays while they are off.
    """

    gi_id: int
    profile_id: int
    placement: Placement
    in_use: bool = False
    device: LiveDevice | None = None
    serves: tuple[str, ...] = ()
    keepers: tuple[OwnerRef, ...] = ()


class LiveGpu(msgspec.Struct, frozen=True):
    """A GPU as the driver lists it now; ``unhealthy`` says why, "" when healthy.

    An unhealthy GPU may list fewer GPU instances than it holds, and lists none if it is not
    ``listed``: it could not be read. One that is ``unready`` is well, and has only to be made ready
    for new ones. One that is ``cut_by_hand`` has a layout that
    somebody asked for, and is ours to cut anew only if it is named (Harvester).
    """

    uuid: str
    pci_address: str
    model: str
    geometry: Geometry
    vgpu_types: tuple[VgpuType, ...] = ()
    numa_node: int = -1
    mig_enabled: bool = True
    layout: Layout = Layout.DYNAMIC
    unhealthy: str = ""
    listed: bool = True
    unready: bool = False
    cut_by_hand: bool = False
    instances: tuple[LiveInstance, ...] = ()

    def served(self, mode: Mode) -> Mapping[str, int]:
        """Map each resource this GPU can serve to the id of the profile that backs it."""
        return resources.served(mode, self.geometry, self.vgpu_types)


class Host(msgspec.Struct, frozen=True):
    """All that one discovery finds: the node's boot, its driver, its GPUs."""

    boot_id: str
    driver: str
    mode: Mode
    gpus: tuple[LiveGpu, ...]
    simulated: bool = False


class Purpose(msgspec.Struct, frozen=True):
    """What a GPU instance is made for: an assignment, whose pod asked for a resource."""

    assignment: str
    resource: str


class Driver(Protocol):
    """The GPUs of one node. Every call may raise :class:`DriverError`."""

    async def discover(self) -> Host:
        """Return everything as it is now."""

    async def create(
        self, gpu: str, profile_id: int, placement: Placement, purpose: Purpose | None = None
    ) -> int:
        """Create a GPU instance at exactly *placement*, with its device, and return its id.

        Without a *purpose* there may be no device. The id is for logs: whether it was created, only
        :meth:`discover` can tell.
        """

    async def destroy(self, gpu: str, gi_id: int) -> None:
        """Destroy a GPU instance that nobody uses, and before it its device."""

    async def watch(self, changed: Callable[[], None]) -> None:
        """Call *changed* whenever there may be something new to discover, until cancelled.

        Not every change is told of; it only makes a look come sooner.
        """
