"""The nodes as the live extender has them: their GPUs, as a record tells them, and their plans."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping

import msgspec

from extender.decision_log.equipment import Equipment
from extender.policy import InForce, PolicyName
from extender.replay.meter import Meter
from extender.replay.recorded import (
    MOST_NODES,
    Place,
    Recorded,
    RecordedGpu,
    RecordedModel,
    RecordedNode,
)
from extender.replay.views import view_of
from nodeagent.api.gpunode import GpuNode, PodRef, version_number

_BARE = InForce.of(PolicyName.DEFAULT)

MOST_GPUS = 64
"""Of a node, those that are there no more among them."""

REMEMBERED = 10_000  # GpuNodes that were deleted


class TooMany(Exception):
    """More has come and gone than is kept: a new stretch begins with what there is."""


class Mirror:
    """What is told of nodes, and how full and broken up their GPUs are live (``meter``).

    What counts of a GPU is its first report, and what makes it take nothing new: one that is
    reported no more is kept so, for in imagination there may be VMs on it.
    """

    def __init__(self) -> None:
        self.meter = Meter()
        self.models: dict[str, RecordedModel] = {}
        self.nodes: dict[str, RecordedNode] = {}
        self._reported: dict[str, GpuNode] = {}
        self._labels: dict[str, Mapping[str, str]] = {}
        self._closed: set[str] = set()
        self._gone: set[str] = set()
        self._deleted: OrderedDict[str, None] = OrderedDict()
        self._record = self.as_record()

    def as_record(self) -> Recorded:
        """Return a record of the nodes, to which ``models`` that are met later belong, too."""
        return Recorded(recorded=1, begins="", nodes=tuple(self.nodes.values()), models=self.models)

    def closed(self, name: str) -> bool:
        """Tell whether a node takes nothing new."""
        return name in self._closed or name in self._gone

    def is_there(self, name: str) -> bool:
        """Tell whether a node has GPUs that were told of."""
        return name in self.nodes and name not in self._gone

    def about(self, name: str, labels: Mapping[str, str], *, closed: bool) -> RecordedNode | None:
        """Take in a Node; return it if that changes what is known of its GPUs' node."""
        self._labels[name] = labels
        (self._closed.add if closed else self._closed.discard)(name)
        known = self.nodes.get(name)
        if known is None:
            return None
        changed = self._keep(msgspec.structs.replace(known, labels=labels))
        self._measure(name)
        return changed

    def gone(self, name: str, uid: str, *, deleted: bool = False) -> bool:
        """Take in that a GpuNode is there no more; return whether that is the one that is known."""
        if deleted:
            self._deleted[uid] = None
            while len(self._deleted) > REMEMBERED:
                self._deleted.popitem(last=False)
        if not self.is_there(name) or self._reported[name].metadata.uid != uid:
            return False
        self._gone.add(name)
        self._measure(name)
        return True

    def listed(self, uids: Collection[str], version: str) -> Iterator[str]:
        """Take in all GpuNodes as of a version; yield the names of those that are deleted."""
        there, listed_at = set(uids), version_number(version)
        for name, known in tuple(self._reported.items()):
            uid = known.metadata.uid
            missing = uid not in there and known.version <= listed_at
            if missing and self.gone(name, uid, deleted=True):
                yield name

    def reported(self, node: GpuNode, *, listed: bool) -> RecordedNode | None:
        """Take in a GpuNode; return it if its GPUs are others than was known.

        Raises:
            TooMany: there is no room for another node, or for another GPU of it.
        """
        if listed:
            self._deleted.pop(node.metadata.uid, None)
        elif node.metadata.uid in self._deleted:
            return None
        before = self._reported[node.name] if self.is_there(node.name) else None
        if before is not None and not listed and node.version < before.version:
            return None
        told = Equipment()
        told.labelled(node.name, self._labels.get(node.name, {}))
        told.reported(node, since=0.0)
        for found in told.nodes:
            self.models.update({k: v for k, v in told.models.items() if k not in self.models})
            self._reported[node.name] = node
            self._gone.discard(node.name)
            changed = self._keep(_usable(found, node))
            self._measure(node.name)
            return changed
        return None

    def places(self, node: GpuNode) -> Iterator[tuple[PodRef, tuple[str, ...], tuple[Place, ...]]]:
        """Yield each pod that a plan has places for, with what it asked for, and these."""
        known = self.nodes.get(node.name)
        if known is None:
            return
        models = {gpu.uuid: gpu.model for gpu in known.gpus}
        found: dict[PodRef, list[tuple[str, Place]]] = {}
        for entry in node.spec.assignments:
            model = self._record.model(models[entry.gpu]) if entry.gpu in models else None
            profile = None if model is None else model.geometry.by_id.get(entry.profile_id)
            if entry.pod is None or profile is None:
                continue
            place = Place(node.name, entry.gpu, profile.name, entry.start)
            found.setdefault(entry.pod, []).append((entry.resource, place))
        for pod, each in found.items():
            wanted = tuple(sorted(resource for resource, _ in each))
            yield pod, wanted, tuple(sorted(place for _, place in each))

    def _keep(self, node: RecordedNode) -> RecordedNode | None:
        """Keep a node; return it if it is another than before, strangers aside."""
        before = self.nodes.get(node.name)
        if before is not None:
            known = {gpu.uuid: gpu for gpu in before.gpus}
            there = tuple(
                msgspec.structs.replace(gpu, occupied=known[gpu.uuid].occupied)
                if gpu.uuid in known
                else gpu
                for gpu in node.gpus
            )
            uuids = {gpu.uuid for gpu in there}
            away = tuple(
                msgspec.structs.replace(gpu, managed=False)
                for gpu in before.gpus
                if gpu.uuid not in uuids
            )
            if len(there) + len(away) > MOST_GPUS:
                raise TooMany
            node = msgspec.structs.replace(node, gpus=(*there, *away))
            if node == before:
                return None
        elif len(self.nodes) >= MOST_NODES:
            raise TooMany
        self.nodes[node.name] = node
        return node

    def _measure(self, name: str) -> None:
        """Show the meter a node as it is live."""
        node, live = self.nodes[name], self._reported[name]
        view = view_of(self._record, node, _BARE)
        models = {gpu.uuid: self._record.model(gpu.model) for gpu in node.gpus}
        entries = tuple(
            each
            for each in live.spec.assignments
            if (model := models.get(each.gpu)) is not None
            and each.profile_id in model.geometry.by_id
        )
        view = view.replanned(entries)
        self.meter.look_at(msgspec.structs.replace(view, cordoned=self.closed(name)))


def _usable(node: RecordedNode, reported: GpuNode) -> RecordedNode:
    """Return a node whose unhealthy GPUs take nothing new."""
    unhealthy = {gpu.uuid for gpu in reported.status.gpus if gpu.unhealthy}
    if not unhealthy:
        return node

    def told(gpu: RecordedGpu) -> RecordedGpu:
        return msgspec.structs.replace(gpu, managed=gpu.managed and gpu.uuid not in unhealthy)

    return msgspec.structs.replace(node, gpus=tuple(map(told, node.gpus)))
