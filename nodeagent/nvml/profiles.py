"""What a GPU allows: its profiles and their placements, as its driver tells them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from math import ceil
from typing import Any

import msgspec
import pynvml

from nodeagent.api.geometry import Geometry, Placement, Profile
from nodeagent.driver import DriverError, FunctionNotFound, NotSupported
from nodeagent.nvml import gpus
from nodeagent.nvml.errors import INVALID_ARGUMENT
from nodeagent.nvml.gpus import Device
from nodeagent.nvml.session import Nvml, text

NOT_MIG_CAPABLE = Geometry(memory_slices=1, compute_slices=0, profiles=())
"""The geometry of a GPU that cannot be divided."""

_ENUMS = range(pynvml.NVML_GPU_INSTANCE_PROFILE_COUNT)
_ATTRIBUTES = {
    pynvml.NVML_GPU_INSTANCE_PROFILE_1_SLICE_REV1: "+me",
    pynvml.NVML_GPU_INSTANCE_PROFILE_2_SLICE_REV1: "+me",
    pynvml.NVML_GPU_INSTANCE_PROFILE_1_SLICE_GFX: "+gfx",
    pynvml.NVML_GPU_INSTANCE_PROFILE_2_SLICE_GFX: "+gfx",
    pynvml.NVML_GPU_INSTANCE_PROFILE_3_SLICE_GFX: "+gfx",
    pynvml.NVML_GPU_INSTANCE_PROFILE_4_SLICE_GFX: "+gfx",
    pynvml.NVML_GPU_INSTANCE_PROFILE_1_SLICE_NO_ME: "-me",
    pynvml.NVML_GPU_INSTANCE_PROFILE_2_SLICE_NO_ME: "-me",
    pynvml.NVML_GPU_INSTANCE_PROFILE_1_SLICE_ALL_ME: "+me.all",
    pynvml.NVML_GPU_INSTANCE_PROFILE_2_SLICE_ALL_ME: "+me.all",
}


def geometry(nvml: Nvml, device: Device) -> Geometry:
    """Return what may be created on a GPU, its profiles in the order of ``nvidia-smi mig -lgip``.

    NVML does not tell how many slices a GPU has: the largest placement and the largest profile do.
    """
    found = list(_profiles(nvml, device))
    if not found:
        return NOT_MIG_CAPABLE
    return Geometry(
        memory_slices=max(place.end for each in found for place in each.placements),
        compute_slices=max(each.compute_slices for each in found),
        profiles=tuple(sorted(found, key=lambda each: (each.compute_slices, each.size, each.id))),
    )


def _profiles(nvml: Nvml, device: Device) -> Iterator[Profile]:
    """Yield the profiles that the GPU has and its driver knows.

    Only what says so is taken as a profile's absence: GPU instances of a profile that is overlooked
    would be overlooked, too.
    """
    for enum in _ENUMS:
        try:
            info, name = _described(nvml, device, enum)
        except NotSupported:
            continue
        except DriverError as error:
            if error.code == INVALID_ARGUMENT:
                return  # a driver that is older than this enum, and so than all after it
            raise
        try:
            placements = _placements(nvml, device, info.id)
        except NotSupported:
            continue
        if placements:
            yield _profile(info, name, placements)


def _profile(info: Any, name: str, placements: tuple[Placement, ...]) -> Profile:
    profile = Profile(
        id=info.id,
        name=name.removeprefix("MIG "),
        compute_slices=info.sliceCount,
        size=placements[0].size,
        starts=tuple(place.start for place in placements),
        max_instances=info.instanceCount,
        memory_mib=info.memorySizeMB or None,
    )
    # NVML is known to tell a wrong count for the A30 (so says NVIDIA's mig-parted): there cannot be
    # more than the placements allow, nor none at all.
    most = profile.fits_at_once
    count = min(info.instanceCount, most) or most
    return msgspec.structs.replace(profile, max_instances=count)


def _described(nvml: Nvml, device: Device, enum: int) -> tuple[Any, str]:
    """Return NVML's description of a profile, and its name.

    Only the newer call tells the name, and its description allows it to refuse while MIG mode is
    off; the older one is then asked, and the name put together as NVIDIA's own tools do.
    """
    ask = pynvml.nvmlDeviceGetGpuInstanceProfileInfo
    try:
        info = nvml.ask(ask, device, enum, 2)
        return info, text(info.name)
    except (NotSupported, FunctionNotFound):
        info = nvml.ask(ask, device, enum, 1)
        return info, _name(info, enum, gpus.memory_bytes(nvml, device))


def _name(info: Any, enum: int, memory_bytes: int) -> str:
    """Return a profile's name: its memory counts as eighths, rounded up, of the GPU's gigabytes."""
    eighths = ceil(8 * info.memorySizeMB * 2**20 / memory_bytes)
    gigabytes = round(eighths / 8 * ceil(memory_bytes / 2**30))
    return f"{info.sliceCount}g.{gigabytes}gb{_ATTRIBUTES.get(enum, '')}"


def _placements(nvml: Nvml, device: Device, profile_id: int) -> tuple[Placement, ...]:
    """Return where GPU instances of a profile may sit at all, be it free now or not."""
    ask, count = pynvml.nvmlDeviceGetGpuInstancePossiblePlacements, ctypes.c_uint(0)
    nvml.ask(ask, device, profile_id, None, ctypes.byref(count))
    found = (pynvml.c_nvmlGpuInstancePlacement_t * max(1, count.value))()
    nvml.ask(ask, device, profile_id, found, ctypes.byref(count))
    return tuple(Placement(each.start, each.size) for each in found[: count.value])
