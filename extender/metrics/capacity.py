"""What one node's slices are worth to whoever comes next.

Slices are memory slices. A slice is *unusable* for a profile if it is free and no legal placement
of the profile covers it: the measure behind the default policy (FGU).
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator

import msgspec

from extender.packing.states import shape
from extender.snapshot import NodeView
from nodeagent.api.geometry import Geometry
from nodeagent.api.gpunode import Gpu, Layout


class Capacity(msgspec.Struct, frozen=True):
    """What a node adds to the fleet's sums. Keys are labels.

    ``gpus``: (model, state) → GPUs. ``slices``: (model, "used" or "free") → slices of usable GPUs.
    ``unusable``: (model, profile) → free slices no placement of the profile covers.
    ``left``: (model, profile) → how many more of that profile alone would fit.
    ``held``: (namespace,) → slices its pods have, or are promised.
    """

    gpus: Counter[tuple[str, ...]]
    slices: Counter[tuple[str, ...]]
    unusable: Counter[tuple[str, ...]]
    left: Counter[tuple[str, ...]]
    held: Counter[tuple[str, ...]]


def capacity(view: NodeView) -> Capacity:
    """Read a node's capacity from its view."""
    found = Capacity(Counter(), Counter(), Counter(), Counter(), Counter())
    usable = {gpu.uuid for gpu in view.usable}
    for gpu in view.node.status.gpus:
        found.gpus[gpu.model, _state(gpu, usable)] += 1
    for gpu, bin in zip(view.usable, view.bins(), strict=True):
        geometry = view.node.status.geometries[gpu.geometry]
        mask = bin.occupancy.mask
        used = mask.bit_count()
        found.slices[gpu.model, "used"] += used
        found.slices[gpu.model, "free"] += geometry.memory_slices - used
        for profile, unusable, left in _worth(geometry, mask, bin.occupancy.counts):
            found.unusable[gpu.model, profile] += unusable
            found.left[gpu.model, profile] += left if view.takes_new else 0
    for entry in view.in_force:
        holder = entry.pod or entry.owner
        if holder is not None:
            found.held[holder.namespace,] += entry.size
    return found


def _state(gpu: Gpu, usable: set[str]) -> str:
    """Return the first reason why nothing may be placed on a GPU, or "usable"."""
    if gpu.layout is Layout.UNMANAGED:
        return "unmanaged"
    if gpu.unhealthy:
        return "unhealthy"
    if not gpu.mig_enabled:
        return "mig-disabled"
    if gpu.layout is Layout.STATIC:
        return "static"
    return "usable" if gpu.uuid in usable else "unreadable"


@functools.lru_cache(maxsize=4096)
def _worth(
    geometry: Geometry, mask: int, counts: tuple[int, ...]
) -> tuple[tuple[str, int, int], ...]:
    """Return (profile, unusable slices, how many would fit) for each profile of a GPU's state."""
    return tuple(_worths(geometry, mask, dict(zip(geometry.limited, counts, strict=True))))


def _worths(
    geometry: Geometry, mask: int, counts: dict[int, int]
) -> Iterator[tuple[str, int, int]]:
    free = geometry.full_mask & ~mask
    for profile in geometry.profiles:
        windows = shape(profile)
        left = windows.together(mask)
        if profile.limited:
            left = min(left, max(0, profile.max_instances - counts[profile.id]))
        covered = functools.reduce(int.__or__, windows.free(mask), 0)
        yield profile.name, (free & ~covered).bit_count(), left
