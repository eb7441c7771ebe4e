"""Compute instances: what makes a GPU instance usable by containers. We make one, of full size."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import NewType

import msgspec
import pynvml

from nodeagent.driver import DriverError, NoSuchInstance, NotSupported
from nodeagent.nvml import gpus
from nodeagent.nvml.errors import INVALID_ARGUMENT, Meanings
from nodeagent.nvml.gpu_instances import GpuInstance
from nodeagent.nvml.gpus import Device
from nodeagent.nvml.session import Nvml

ComputeInstance = NewType("ComputeInstance", object)
"""NVML's handle of a compute instance."""

CREATE_COMPUTE = "nvmlGpuInstanceCreateComputeInstance"

_ENUMS = range(pynvml.NVML_COMPUTE_INSTANCE_PROFILE_COUNT)
_SHARED = pynvml.NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED
_OF_ONE: Meanings = {INVALID_ARGUMENT: NoSuchInstance}
_MOST = 8
"""More than any GPU instance can hold."""


class MigDevice(msgspec.Struct, frozen=True):
    """A compute instance as the device that a program can be given."""

    ci_id: int
    uuid: str


class ComputeProfile(msgspec.Struct, frozen=True):
    """A compute instance profile, as one GPU instance offers it."""

    id: int
    slices: int
    multiprocessors: int


def create_full(nvml: Nvml, gpu_instance: GpuInstance, compute_slices: int) -> None:
    """Create the compute instance that has all of the GPU instance."""
    full = _full(nvml, gpu_instance, compute_slices)
    if not full:
        raise DriverError(CREATE_COMPUTE, meaning="no compute instance profile has all its slices")
    nvml.ask(pynvml.nvmlGpuInstanceCreateComputeInstance, gpu_instance, full.id)


def full_device(nvml: Nvml, gpu_instance: GpuInstance, compute_slices: int) -> MigDevice | None:
    """Return the compute instance that has all of the GPU instance, if that exists."""
    full = _full(nvml, gpu_instance, compute_slices)
    for each in _of(nvml, gpu_instance, full) if full else ():
        info = nvml.ask(pynvml.nvmlComputeInstanceGetInfo_v2, each, meanings=_OF_ONE)
        # The handle of the MIG device itself: no walk over the indices, which is slow and misses
        # what has only just been made.
        return MigDevice(info.id, gpus.uuid(nvml, Device(info.device)))
    return None


def destroy_all(nvml: Nvml, gpu_instance: GpuInstance) -> None:
    """Destroy every compute instance of a GPU instance; none may be in use."""
    for profile in _profiles(nvml, gpu_instance):
        for each in list(_of(nvml, gpu_instance, profile)):
            nvml.ask(pynvml.nvmlComputeInstanceDestroy, each)


def _full(nvml: Nvml, gpu_instance: GpuInstance, compute_slices: int) -> ComputeProfile | None:
    """Return the profile of all that the GPU instance has.

    All its compute slices are not enough: on a 1g.20gb of an H100 two profiles have one slice, of
    16 and of 26 multiprocessors.
    """
    full = (each for each in _profiles(nvml, gpu_instance) if each.slices == compute_slices)
    return max(full, key=lambda each: each.multiprocessors, default=None)


def _of(
    nvml: Nvml, gpu_instance: GpuInstance, profile: ComputeProfile
) -> Iterator[ComputeInstance]:
    found, count = (pynvml.c_nvmlComputeInstance_t * _MOST)(), ctypes.c_uint(_MOST)
    ask = pynvml.nvmlGpuInstanceGetComputeInstances
    nvml.ask(ask, gpu_instance, profile.id, found, ctypes.byref(count))
    yield from (ComputeInstance(each) for each in found[: count.value])


def _profiles(nvml: Nvml, gpu_instance: GpuInstance) -> Iterator[ComputeProfile]:
    for enum in _ENUMS:
        ask = pynvml.nvmlGpuInstanceGetComputeInstanceProfileInfo
        try:
            info = nvml.ask(ask, gpu_instance, enum, _SHARED, 1)
        except NotSupported:
            continue
        except DriverError as error:
            if error.code == INVALID_ARGUMENT:
                continue
            raise
        yield ComputeProfile(info.id, info.sliceCount, info.multiprocessorCount)
