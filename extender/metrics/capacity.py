"""What one node's slices are worth to whoever comes next.

Slices are memory slices. A slice is *unusable* for a profile if it is free and no legal placement
of the profile covers it: the measure behind the default policy (FGU).
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator

import msgspec

from extender.metrics.ailments import ailment
from extender.occupants import charges
from extender.packing.states import shape
from extender.policy.bounds import UNKNOWN
from extender.snapshot import NodeView
from nodeagent.api import keys
from nodeagent.api.geometry import Geometry, Profile
from nodeagent.api.gpunode import Gpu, Layout

UNHEALTHY = "unhealthy"
STATUSES = ("True", "False")

Key = tuple[str, ...]
"""The values of labels."""


class Capacity(msgspec.Struct, frozen=True):
    """What a node adds to the fleet's sums. Keys are labels.

    ``gpus``: (model, state) → GPUs. ``ailing``: (model, ailment) → those that are unhealthy.
    ``slices``: (model, "used" or "free") → slices of usable GPUs.
    ``unusable``: (model, profile) → free slices no placement of the profile covers.
    ``left``: (model, profile) → how many more of that profile alone would fit.
    ``sizes``: (model, profile) → the profile's slices, where any of it would fit.
    ``held``: (namespace, profile) → instances planned for its pods. ``slices_held``: their slices.
    ``conditions``: (condition, status) → 1 for each that the agent has set.
    """

    gpus: Counter[Key] = msgspec.field(default_factory=Counter)
    ailing: Counter[Key] = msgspec.field(default_factory=Counter)
    slices: Counter[Key] = msgspec.field(default_factory=Counter)
    unusable: Counter[Key] = msgspec.field(default_factory=Counter)
    left: Counter[Key] = msgspec.field(default_factory=Counter)
    sizes: dict[Key, int] = {}
    held: Counter[Key] = msgspec.field(default_factory=Counter)
    slices_held: Counter[Key] = msgspec.field(default_factory=Counter)
    conditions: Counter[Key] = msgspec.field(default_factory=Counter)


def capacity(view: NodeView) -> Capacity:
    """Read a node's capacity from its view."""
    found = Capacity()
    usable = {gpu.uuid for gpu in view.usable}
    for gpu in view.node.status.gpus:
        state = _state(gpu, usable)
        found.gpus[gpu.model, state] += 1
        if state == UNHEALTHY:
            found.ailing[gpu.model, ailment(gpu.unhealthy).value] += 1
    for gpu, bin in zip(view.usable, view.bins(), strict=True):
        geometry = view.node.status.geometries[gpu.geometry]
        mask = bin.occupancy.mask
        used = mask.bit_count()
        found.slices[gpu.model, "used"] += used
        found.slices[gpu.model, "free"] += geometry.memory_slices - used
        for profile, unusable, left in _worth(geometry, mask, bin.occupancy.counts):
            key = (gpu.model, profile.name)
            found.unusable[key] += unusable
            found.left[key] += left if view.takes_new else 0
            if left and view.takes_new:
                found.sizes[key] = profile.size
    for (namespace, name), (count, slices) in charges(view).items():
        if namespace != UNKNOWN:
            found.held[namespace, name] += count
            found.slices_held[namespace, name] += slices
    for each in view.node.status.conditions:
        if each.type in keys.CONDITIONS and each.status in STATUSES:
            found.conditions[each.type, each.status] += 1
    return found


def _state(gpu: Gpu, usable: set[str]) -> str:
    """Return the first reason why nothing may be placed on a GPU, or "usable"."""
    if gpu.layout is Layout.UNMANAGED:
        return "unmanaged"
    if gpu.unhealthy:
        return UNHEALTHY
    if not gpu.mig_enabled:
        return "mig-disabled"
    if gpu.layout is Layout.STATIC:
        return "static"
    return "usable" if gpu.uuid in usable else "unreadable"


@functools.lru_cache(maxsize=4096)
def _worth(
    geometry: Geometry, mask: int, counts: tuple[int, ...]
) -> tuple[tuple[Profile, int, int], ...]:
    """Return (profile, unusable slices, how many would fit) for each profile of a GPU's state."""
    return tuple(_worths(geometry, mask, dict(zip(geometry.limited, counts, strict=True))))


def _worths(
    geometry: Geometry, mask: int, counts: dict[int, int]
) -> Iterator[tuple[Profile, int, int]]:
    free = geometry.full_mask & ~mask
    for profile in geometry.profiles:
        windows = shape(profile)
        left = windows.together(mask)
        if profile.limited:
            left = min(left, max(0, profile.max_instances - counts[profile.id]))
        covered = functools.reduce(int.__or__, windows.free(mask), 0)
        yield profile, (free & ~covered).bit_count(), left
