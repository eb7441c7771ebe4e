"""NVML's calls about vGPUs: which types a GPU serves, which GPU instances they run on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pynvml

from nodeagent.api.gpunode import VgpuType
from nodeagent.driver import DriverError, FunctionNotFound, NotSupported
from nodeagent.nvml.gpus import WHOLE_GPU, Device
from nodeagent.nvml.session import Nvml, text

_ATTEMPTS = 3
_INSUFFICIENT_SIZE = pynvml.NVML_ERROR_INSUFFICIENT_SIZE


def types(nvml: Nvml, device: Device) -> tuple[VgpuType, ...]:
    """Return the types that a GPU instance backs; none where the driver is no vGPU host's."""
    try:
        ids = _listed(nvml, pynvml.nvmlDeviceGetSupportedVgpus, device)
    except (NotSupported, FunctionNotFound):
        return ()
    found = []
    for type_id in ids:
        profile_id = _profile_id(nvml, type_id)
        if profile_id == WHOLE_GPU:
            continue  # time-sliced: it has the whole GPU's memory to share, and no profile
        name = text(nvml.ask(pynvml.nvmlVgpuTypeGetName, type_id))
        found.append(VgpuType(name, profile_id, max_per_instance=_seats(nvml, type_id)))
    return tuple(found)


def active(nvml: Nvml, device: Device) -> list[int]:
    """Return the GPU instance of each vGPU that runs in a VM."""
    ids = _listed(nvml, pynvml.nvmlDeviceGetActiveVgpus, device)
    return [int(nvml.ask(pynvml.nvmlVgpuInstanceGetGpuInstanceId, each)) for each in ids]


def _profile_id(nvml: Nvml, type_id: int) -> int:
    try:
        return int(nvml.ask(pynvml.nvmlVgpuTypeGetGpuInstanceProfileId, type_id))
    except NotSupported:
        return WHOLE_GPU


def _seats(nvml: Nvml, type_id: int) -> int:
    """Return how many vGPUs of a type one GPU instance serves.

    Drivers that cannot tell are older than GPU instances shared by vGPUs: one.
    """
    try:
        return int(nvml.ask(pynvml.nvmlVgpuTypeGetMaxInstancesPerGpuInstance, type_id))
    except (NotSupported, FunctionNotFound):
        return 1


def _listed(nvml: Nvml, ask: Callable[..., Any], device: Device) -> list[int]:
    """Return a list that pynvml fetches by asking for its length first; it may grow meanwhile."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return list(nvml.ask(ask, device))
        except DriverError as error:
            if error.code != _INSUFFICIENT_SIZE:
                raise
    return list(nvml.ask(ask, device))
