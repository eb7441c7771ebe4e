"""What is on the node, as the inventory tells it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import msgspec

from nodeagent.api.geometry import Geometry
from nodeagent.api.gpunode import Assignment, Gpu, Instance, Inventory, VgpuType
from nodeagent.api.occupancy import summary
from nodeagent.driver import Host
from nodeagent.ownership import Observed

KEEPERS_TOLD = 8
"""How many of those who keep a device are told: each was off while another had it, and left it."""


def inventory(
    host: Host, observed: Mapping[str, Sequence[Observed]], plan: Iterable[Assignment]
) -> Inventory:
    """Return what *host* has, its GPU instances as *observed*; the agent adds what it did."""
    geometries: dict[str, Geometry] = {}
    types: dict[str, tuple[VgpuType, ...]] = {}
    gpus = []
    for gpu in host.gpus:
        types_hash = vgpu_types_hash(gpu.vgpu_types)
        geometries[gpu.geometry.hash] = gpu.geometry
        if types_hash:
            types[types_hash] = gpu.vgpu_types
        gpus.append(
            Gpu(
                uuid=gpu.uuid,
                pci_address=gpu.pci_address,
                model=gpu.model,
                geometry=gpu.geometry.hash,
                vgpu_types=types_hash,
                numa_node=gpu.numa_node,
                mig_enabled=gpu.mig_enabled,
                layout=gpu.layout,
                unhealthy=gpu.unhealthy,
                instances=tuple(map(_instance, observed[gpu.uuid])),
            )
        )
    return Inventory(
        boot_id=host.boot_id,
        driver=host.driver,
        mode=host.mode,
        simulated=host.simulated,
        summary=summary(geometries, gpus, plan),
        geometries=geometries,
        vgpu_types=types,
        gpus=tuple(gpus),
    )


@lru_cache(maxsize=64)  # asked at each pass of each GPU, and as many as there are kinds of GPUs
def vgpu_types_hash(types: tuple[VgpuType, ...]) -> str:
    """Return a short content hash: equal types, and only they, share it; "" for none."""
    return hashlib.sha256(msgspec.json.encode(types)).hexdigest()[:12] if types else ""


def _instance(observed: Observed) -> Instance:
    return Instance(
        gi_id=observed.gi_id,
        profile_id=observed.profile_id,
        start=observed.placement.start,
        size=observed.placement.size,
        assignment="" if observed.standing else observed.assignment,
        holder=observed.holder.pod if observed.holder else None,
        resource=_resource(observed),
        standing=observed.standing,
        keepers=observed.keepers[:KEEPERS_TOLD] if observed.standing else (),
        # One of ours is destroyed at once, unless something keeps it.
        vacant=observed.vacant and (not observed.assignment or bool(observed.held)),
    )


def _resource(observed: Observed) -> str:
    if observed.holder:
        return observed.holder.resource
    return observed.serves[0] if observed.standing and observed.serves else ""
