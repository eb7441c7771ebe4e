"""Creating and destroying GPU instances."""

from __future__ import annotations

from nodeagent.api.geometry import Geometry, Placement
from nodeagent.driver import (
    CREATE,
    DESTROY,
    DriverError,
    DriverTimeout,
    InstanceInUse,
    NoSuchInstance,
)
from nodeagent.nvml import compute_instances, gpu_instances, gpus
from nodeagent.nvml.gpu_instances import Described, GpuInstance
from nodeagent.nvml.session import Nvml
from nodeagent.nvml.use import in_use


def create(
    nvml: Nvml, gpu: str, profile_id: int, placement: Placement, *, full: Geometry | None
) -> Described:
    """Create a GPU instance at exactly *placement*; where *full* is given, make it usable, too.

    *full* is the GPU's geometry: containers need a compute instance of the GPU instance's size,
    vGPUs bring their own (inferred). If anything after the creation fails, the GPU instance is
    destroyed.
    """
    try:
        device = gpus.named(nvml, gpu)
    except DriverTimeout as error:
        raise _about_another_call(error) from error
    gpu_instance = gpu_instances.create(nvml, device, profile_id, placement)
    try:
        made = gpu_instances.described(nvml, gpu_instance)
        if (made.profile_id, made.placement) != (profile_id, placement):
            found = f"profile {made.profile_id} at {{{made.placement.start}}}:{made.placement.size}"
            raise DriverError(CREATE, meaning="the driver made another GPU instance", detail=found)
        if full:
            profile = full.by_id[profile_id]
            compute_instances.create_full(nvml, gpu_instance, profile.compute_slices)
    except DriverError as error:
        _undo(nvml, gpu_instance, error)
        raise _about_another_call(error) from error
    return made


def _about_another_call(error: DriverError) -> DriverError:
    """Return an error that tells the same and no more.

    What class of error a creation raises tells whether there may be a GPU instance now: a timeout
    that nobody knows, *insufficient resources* that there is none. Other calls' answers do not.
    """
    return DriverError(error.call, code=error.code, meaning=error.meaning, detail=error.detail)


def _undo(nvml: Nvml, gpu_instance: GpuInstance, reason: DriverError) -> None:
    """Destroy what was just created, or say that it stays: no caller may think it is not there."""
    try:
        compute_instances.destroy_all(nvml, gpu_instance)
        gpu_instances.destroy(nvml, gpu_instance)
    except DriverError as error:
        raise DriverError(
            CREATE,
            code=reason.code,
            meaning="the GPU instance was made, is of no use, and could not be destroyed",
            detail=f"{reason}; {error}",
        ) from reason


def destroy(nvml: Nvml, gpu: str, gi_id: int, *, listed: Described | None) -> None:
    """Destroy the GPU instance *gi_id* if it still is what was *listed* under that id.

    Ids are reused: between the look and now somebody may have put another one in its place.
    """
    device = gpus.named(nvml, gpu)
    gpu_instance = gpu_instances.numbered(nvml, device, gi_id)
    found = gpu_instances.described(nvml, gpu_instance)
    if found != listed:
        raise NoSuchInstance(DESTROY, detail="another one has its id now")
    if gi_id in in_use(nvml, device):
        raise InstanceInUse(DESTROY)
    compute_instances.destroy_all(nvml, gpu_instance)
    gpu_instances.destroy(nvml, gpu_instance)
