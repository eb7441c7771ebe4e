"""pynvml's calls as the tests need them: lists instead of counts and buffers."""

from __future__ import annotations

from ctypes import byref, c_uint
from types import ModuleType
from typing import Any

import pytest

from nodeagent.api.geometry import Placement


def profiles(nvml: ModuleType, device: Any, version: int = 2) -> dict[int, Any]:
    """Return the GPU instance profiles by NVML's enumerator."""
    found = {}
    for enumerator in range(nvml.NVML_GPU_INSTANCE_PROFILE_COUNT):
        try:
            found[enumerator] = nvml.nvmlDeviceGetGpuInstanceProfileInfo(
                device, enumerator, version
            )
        except nvml.NVMLError as error:
            if error.value != nvml.NVML_ERROR_NOT_SUPPORTED:
                raise
    return found


def placements(nvml: ModuleType, device: Any, profile_id: int) -> list[Placement]:
    """Return a profile's possible placements."""
    count = c_uint()
    nvml.nvmlDeviceGetGpuInstancePossiblePlacements(device, profile_id, None, byref(count))
    buffer = (nvml.c_nvmlGpuInstancePlacement_t * count.value)()
    nvml.nvmlDeviceGetGpuInstancePossiblePlacements(device, profile_id, buffer, byref(count))
    return [Placement(each.start, each.size) for each in buffer]


def create(nvml: ModuleType, device: Any, profile_id: int, start: int, size: int) -> Any:
    """Create a GPU instance and return its handle."""
    at = nvml.c_nvmlGpuInstancePlacement_t(start, size)
    return nvml.nvmlDeviceCreateGpuInstanceWithPlacement(device, profile_id, byref(at))


def gpu_instances(nvml: ModuleType, device: Any) -> dict[int, Any]:
    """Return the info of every GPU instance of a GPU with MIG on, by id."""
    found = {}
    for info in profiles(nvml, device).values():
        count = c_uint()
        buffer = (nvml.c_nvmlGpuInstance_t * info.instanceCount)()
        nvml.nvmlDeviceGetGpuInstances(device, info.id, buffer, byref(count))
        for handle in buffer[: count.value]:
            one = nvml.nvmlGpuInstanceGetInfo(handle)
            found[one.id] = one
    return found


def full_profile(nvml: ModuleType, instance: Any, compute_slices: int) -> Any:
    """Return the compute instance profile with all slices and the most multiprocessors."""
    found = []
    for enumerator in range(nvml.NVML_COMPUTE_INSTANCE_PROFILE_COUNT):
        try:
            info = nvml.nvmlGpuInstanceGetComputeInstanceProfileInfo(instance, enumerator, 0)
        except nvml.NVMLError as error:
            if error.value != nvml.NVML_ERROR_NOT_SUPPORTED:
                raise
        else:
            found.append(info)
    whole = [info for info in found if info.sliceCount == compute_slices]
    return max(whole, key=lambda info: info.multiprocessorCount)


class Refusal:
    """``with refused(nvml, 19): ...``: NVML must answer with exactly that code."""

    def __init__(self, nvml: ModuleType, code: int) -> None:
        self._code = code
        self._raises = pytest.raises(nvml.NVMLError)

    def __enter__(self) -> None:
        self._error = self._raises.__enter__()

    def __exit__(self, *exception: Any) -> bool:
        passed = bool(self._raises.__exit__(*exception))
        if passed:
            # The error itself in a comparison would be a trap: it has __eq__ and no __hash__.
            assert self._error.value.value == self._code
        return passed
