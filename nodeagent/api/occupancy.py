"""What is taken on a GPU, and what is left of a node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nodeagent.api.geometry import Geometry, Occupancy, Placement
from nodeagent.api.gpunode import Assignment, Gpu, Layout, Summary


def occupancy(geometry: Geometry, gpu: Gpu, assignments: Iterable[Assignment] = ()) -> Occupancy:
    """Return what is taken on *gpu*: by its GPU instances, and by planned ones not there yet."""
    taken = {(i.profile_id, i.placement) for i in gpu.instances}
    taken |= {(a.profile_id, a.placement) for a in assignments if a.gpu == gpu.uuid}
    return occupied_by(geometry, taken)


def occupied_by(geometry: Geometry, taken: Iterable[tuple[int, Placement]]) -> Occupancy:
    """Return the occupancy of a GPU that holds each (profile id, placement) of *taken*."""
    total = geometry.empty
    for profile_id, placement in taken:
        total = geometry.occupied(total, profile_id, placement)
    return total


def summary(
    geometries: Mapping[str, Geometry], gpus: Iterable[Gpu], plan: Iterable[Assignment]
) -> Summary:
    """Sum up what a node has and what of it is neither taken nor promised."""
    planned = tuple(plan)
    count = free = total = 0
    largest: tuple[int, int, str] = (0, 0, "")
    for gpu in gpus:
        geometry = geometries[gpu.geometry]
        now = occupancy(geometry, gpu, planned)
        count += 1
        total += geometry.memory_slices if geometry.profiles else 0  # it may know no MIG
        if gpu.unhealthy or not gpu.mig_enabled or gpu.layout is Layout.UNMANAGED:
            continue
        free += (geometry.full_mask & ~now.mask).bit_count()
        for profile in geometry.profiles:
            rank = (profile.size, profile.compute_slices, profile.name)
            if rank > largest and next(geometry.legal(now, profile), None) is not None:
                largest = rank
    return Summary(gpus=count, free_slices=free, total_slices=total, largest_placeable=largest[2])
