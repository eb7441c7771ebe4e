"""Which resources the scheduler has to hand over to the extender, and whether it counts them.

kube-scheduler knows no wildcards: each profile's or vGPU type's name has to be listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nodeagent.api import resources
from nodeagent.api.catalog import Model
from nodeagent.api.gpunode import GpuNode, Mode

Offered = Mapping[str, bool]
"""Resources by name, and whether kube-scheduler must ignore them (``ignoredByScheduler``)."""


def of_inventory(nodes: Iterable[GpuNode]) -> Offered:
    """Return what the GPUs that are there can serve, and no resource that is not handed out.

    Our device plugin advertises slots, which the scheduler counts; Harvester's advertises a device
    only once it is made, which the scheduler must not wait for.
    """
    found: dict[str, bool] = {}
    for node in nodes:
        status = node.status
        for gpu in status.gpus:
            geometry = status.geometries.get(gpu.geometry)
            if geometry is None:
                continue
            types = status.vgpu_types.get(gpu.vgpu_types, ())
            for name in resources.served(status.mode, geometry, types):
                if not status.resources or name in status.resources:
                    found[name] = found.get(name, False) or status.mode is Mode.HARVESTER
    return dict(sorted(found.items()))


def of_models(models: Iterable[Model], *, harvester: bool = False) -> Offered:
    """Return what any board of known *models* can serve, to VMs and to containers.

    With *harvester* to VMs alone, and by devices that come when they are made.
    """
    found: set[str] = set()
    for model in models:
        if not harvester:
            found.update(resources.served(Mode.CONTAINER, model.geometry, ()))
        for board in model.boards.values():
            found.update(resources.served(Mode.VGPU_VFIO, model.geometry, board.types))
    return dict.fromkeys(sorted(found), harvester)
