"""NVML's calls about GPU instances: list, create, destroy."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import NewType

import msgspec
import pynvml

from nodeagent.api.geometry import Geometry, Placement
from nodeagent.driver import InvalidPlacement, MigDisabled, NoSuchInstance
from nodeagent.nvml.errors import INVALID_ARGUMENT, NOT_SUPPORTED, Meanings
from nodeagent.nvml.gpus import Device
from nodeagent.nvml.session import Nvml

GpuInstance = NewType("GpuInstance", object)
"""NVML's handle of a GPU instance."""

_ON_A_GPU: Meanings = {NOT_SUPPORTED: MigDisabled}
_OF_ONE: Meanings = {NOT_SUPPORTED: MigDisabled, INVALID_ARGUMENT: NoSuchInstance}


class Described(msgspec.Struct, frozen=True):
    """A GPU instance as NVML describes it."""

    gi_id: int
    profile_id: int
    placement: Placement


def existing(nvml: Nvml, device: Device, geometry: Geometry) -> Iterator[GpuInstance]:
    """Yield every GPU instance, whether or not it has a compute instance (and so a MIG device)."""
    for profile in geometry.profiles:
        # Room for one at each placement, in case the driver's own count is too low.
        room = max(profile.max_instances, len(profile.starts))
        found, count = (pynvml.c_nvmlGpuInstance_t * room)(), ctypes.c_uint(room)
        ask = pynvml.nvmlDeviceGetGpuInstances
        nvml.ask(ask, device, profile.id, found, ctypes.byref(count), meanings=_ON_A_GPU)
        yield from (GpuInstance(each) for each in found[: count.value])


def numbered(nvml: Nvml, device: Device, gi_id: int) -> GpuInstance:
    """Return the GPU instance that has this id now."""
    ask = pynvml.nvmlDeviceGetGpuInstanceById
    return GpuInstance(nvml.ask(ask, device, gi_id, meanings=_OF_ONE))


def described(nvml: Nvml, gpu_instance: GpuInstance) -> Described:
    """Return what a GPU instance is and where it sits."""
    info = nvml.ask(pynvml.nvmlGpuInstanceGetInfo, gpu_instance, meanings=_OF_ONE)
    return Described(info.id, info.profileId, Placement(info.placement.start, info.placement.size))


def create(nvml: Nvml, device: Device, profile_id: int, placement: Placement) -> GpuInstance:
    """Create a GPU instance.

    The driver says *insufficient resources* both where something else occupies the placement and
    where our own GPU instance already sits there: only looking tells these two apart.
    """
    place = pynvml.c_nvmlGpuInstancePlacement_t(placement.start, placement.size)
    return GpuInstance(
        nvml.ask(
            pynvml.nvmlDeviceCreateGpuInstanceWithPlacement,
            device,
            profile_id,
            ctypes.byref(place),  # by value it is a segmentation fault
            meanings={NOT_SUPPORTED: MigDisabled, INVALID_ARGUMENT: InvalidPlacement},
        )
    )


def destroy(nvml: Nvml, gpu_instance: GpuInstance) -> None:
    """Destroy a GPU instance without compute instances."""
    nvml.ask(pynvml.nvmlGpuInstanceDestroy, gpu_instance, meanings=_OF_ONE)
