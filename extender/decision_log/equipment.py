"""The nodes and GPUs in a log, as their agents reported them first."""

from __future__ import annotations

from collections.abc import Mapping, Set

import msgspec

from extender.replay.recorded import (
    Place,
    RecordedGpu,
    RecordedModel,
    RecordedNode,
    Stranger,
)
from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Geometry
from nodeagent.api.gpunode import Assignment, Gpu, GpuNode, Inventory, Layout


class Equipment:
    """The nodes that have reported GPUs; ``models`` are those of which the catalog says other."""

    def __init__(self) -> None:
        self.models: dict[str, RecordedModel] = {}
        self._nodes: dict[str, RecordedNode] = {}
        self._labels: dict[str, Mapping[str, str]] = {}
        self._geometries: dict[str, Geometry] = {}

    @property
    def nodes(self) -> tuple[RecordedNode, ...]:
        """All nodes."""
        return tuple(
            msgspec.structs.replace(each, labels=self._labels.get(each.name, {}))
            for each in self._nodes.values()
        )

    @property
    def present(self) -> Set[str]:
        """The names of the nodes that are there now."""
        return {name for name, node in self._nodes.items() if node.until is None}

    def labelled(self, name: str, labels: Mapping[str, str]) -> None:
        """Take in the labels of a Node."""
        self._labels[name] = labels

    def reported(self, node: GpuNode, *, since: float) -> None:
        """Take in a node as it has been reported; what counts of a GPU is its first report."""
        status = node.status
        known = self._nodes.get(node.name)
        here = () if known is None else known.gpus
        told = {gpu.uuid for gpu in here}
        gpus = (
            *here,
            *(
                RecordedGpu(
                    index,
                    gpu.uuid,
                    self._model(gpu, status),
                    managed=gpu.layout is not Layout.UNMANAGED and gpu.mig_enabled,
                    occupied=tuple(_strangers(node, gpu)),
                )
                for index, gpu in enumerate(status.gpus)
                if gpu.uuid not in told and gpu.geometry in status.geometries
            ),
        )
        if known is not None:  # it may have been away
            self._nodes[node.name] = msgspec.structs.replace(known, gpus=gpus, until=None)
        elif gpus:
            self._nodes[node.name] = RecordedNode(
                node.name, gpus, mode=status.mode, resources=status.resources, since=since
            )

    def gone(self, name: str, *, at: float) -> None:
        """Take in that a node is there no more."""
        node = self._nodes.get(name)
        if node is not None and node.until is None and at > node.since:
            self._nodes[name] = msgspec.structs.replace(node, until=at)

    def place(self, node: str, entry: Assignment) -> Place | None:
        """Return a plan's entry as a place, None if no GPU that was reported has it."""
        geometry = self._geometries.get(entry.gpu)
        profile = None if geometry is None else geometry.by_id.get(entry.profile_id)
        if profile is None or node not in self._nodes:
            return None
        if all(each.start != entry.start for each in profile.placements):
            return None
        return Place(node, entry.gpu, profile.name, entry.start)

    def _model(self, gpu: Gpu, status: Inventory) -> str:
        """Return a GPU's model, and note it where the catalog does not know it as it is.

        Of a model that is reported in several ways the first counts, for its places as well.
        """
        geometry = status.geometries[gpu.geometry]
        types = status.vgpu_types.get(gpu.vgpu_types, ())
        catalog = MODELS.get(gpu.model)
        if catalog is None or catalog.geometry != geometry or catalog.vgpu_types != types:
            self.models.setdefault(gpu.model, RecordedModel(geometry, types))
        own = self.models.get(gpu.model)
        if own is not None:
            self._geometries[gpu.uuid] = own.geometry
        elif catalog is not None:
            self._geometries[gpu.uuid] = catalog.geometry
        return gpu.model


def _strangers(node: GpuNode, gpu: Gpu) -> list[Stranger]:
    """Return the instances that Tangram did not make, but for those that plans have."""
    taken = 0
    for entry in node.spec.assignments:
        if entry.gpu == gpu.uuid:
            taken |= entry.placement.mask
    found = []
    for instance in gpu.instances:
        mask = instance.placement.mask
        if not instance.assignment and not mask & taken:
            taken |= mask
            found.append(Stranger(instance.start, instance.size))
    return found
