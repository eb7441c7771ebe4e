"""NVML's calls about a whole GPU. None of them changes anything but :func:`set_mig_mode`.

pynvml sets no ``argtypes``, so an argument of the wrong shape is a segmentation fault: that is why
calls are made in these few modules only, and why a handle has a type.
"""

from __future__ import annotations

from typing import NewType

import pynvml

from nodeagent.driver import GpuLost
from nodeagent.nvml.errors import GPU_NOT_FOUND, INVALID_ARGUMENT, NOT_FOUND, Meanings, translated
from nodeagent.nvml.session import Nvml, text

Device = NewType("Device", object)
"""NVML's handle of a GPU. It goes stale with a reset, so none is kept from one job to the next."""

WHOLE_GPU = 0xFFFFFFFF
"""What NVML says in place of a GPU instance's id where it means none in particular."""

_UNKNOWN: Meanings = dict.fromkeys((INVALID_ARGUMENT, NOT_FOUND, GPU_NOT_FOUND), GpuLost)


def count(nvml: Nvml) -> int:
    """Return how many GPUs there are, lost ones included as long as they are counted."""
    return int(nvml.ask(pynvml.nvmlDeviceGetCount))


def at(nvml: Nvml, index: int) -> Device:
    """Return a GPU by its index."""
    return Device(nvml.ask(pynvml.nvmlDeviceGetHandleByIndex, index, meanings=_UNKNOWN))


def named(nvml: Nvml, uuid: str) -> Device:
    """Return the GPU with that UUID; an unknown one counts as lost."""
    handle = nvml.ask(pynvml.nvmlDeviceGetHandleByUUID, uuid.encode(), meanings=_UNKNOWN)
    return Device(handle)


def uuid(nvml: Nvml, device: Device) -> str:
    """Return the UUID of a GPU, or of the MIG device that the handle stands for."""
    return text(nvml.ask(pynvml.nvmlDeviceGetUUID, device))


def minor(nvml: Nvml, device: Device) -> int:
    """Return the minor number of the GPU's device file, ``/dev/nvidia<minor>``."""
    return int(nvml.ask(pynvml.nvmlDeviceGetMinorNumber, device))


def model(nvml: Nvml, device: Device) -> str:
    """Return the product's name."""
    return text(nvml.ask(pynvml.nvmlDeviceGetName, device))


def bus_id(nvml: Nvml, device: Device) -> str:
    """Return the PCI address as NVML spells it."""
    return text(nvml.ask(pynvml.nvmlDeviceGetPciInfo, device).busId)


def memory_bytes(nvml: Nvml, device: Device) -> int:
    """Return the size of the whole memory."""
    return int(nvml.ask(pynvml.nvmlDeviceGetMemoryInfo, device).total)


def mig_mode(nvml: Nvml, device: Device) -> tuple[bool, bool]:
    """Return whether MIG mode is on, and whether it will be after the next reset."""
    current, pending = nvml.ask(pynvml.nvmlDeviceGetMigMode, device)
    on = pynvml.NVML_DEVICE_MIG_ENABLE
    return current == on, pending == on


def set_mig_mode(nvml: Nvml, device: Device, *, on: bool) -> int:
    """Ask for a MIG mode, and return the error code that keeps it from coming at once, 0 if none.

    The driver may unbind or reset the GPU: every handle has to be fetched again.
    """
    wanted = pynvml.NVML_DEVICE_MIG_ENABLE if on else pynvml.NVML_DEVICE_MIG_DISABLE
    return int(nvml.ask(pynvml.nvmlDeviceSetMigMode, device, wanted))


def remapped_rows(nvml: Nvml, device: Device) -> tuple[bool, bool]:
    """Return whether a remapping of memory rows waits for a reset, and whether one has failed.

    Not supported while the GPU has GPU instances (nvml.h).
    """
    _, _, pending, failed = nvml.ask(pynvml.nvmlDeviceGetRemappedRows, device)
    return bool(pending), bool(failed)


def retirement_pending(nvml: Nvml, device: Device) -> bool:
    """Return whether the retirement of a memory page waits for a reset (before Ampere)."""
    return bool(nvml.ask(pynvml.nvmlDeviceGetRetiredPagesPendingStatus, device))


def uncorrected_errors(nvml: Nvml, device: Device) -> int:
    """Return how many memory errors ECC could not correct since the last reset."""
    kind, since_reset = pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
    return int(nvml.ask(pynvml.nvmlDeviceGetTotalEccErrors, device, kind, since_reset))


def recovery_action(nvml: Nvml, device: Device) -> int:
    """Return what the driver says must be done to the GPU, 0 for nothing."""
    field = pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION
    (answer,) = nvml.ask(pynvml.nvmlDeviceGetFieldValues, device, [field])
    with translated(nvml.in_flight):
        pynvml._nvmlCheckReturn(answer.nvmlReturn)  # each field has an error of its own
    return int(answer.value.uiVal)


def computing(nvml: Nvml, device: Device) -> list[int]:
    """Return the GPU instance of each process that computes."""
    return _gpu_instances(nvml.ask(pynvml.nvmlDeviceGetComputeRunningProcesses_v3, device))


def drawing(nvml: Nvml, device: Device) -> list[int]:
    """Return the GPU instance of each process that draws."""
    return _gpu_instances(nvml.ask(pynvml.nvmlDeviceGetGraphicsRunningProcesses_v3, device))


def _gpu_instances(processes: list[object]) -> list[int]:
    return [int(getattr(each, "gpuInstanceId", WHOLE_GPU)) for each in processes]
