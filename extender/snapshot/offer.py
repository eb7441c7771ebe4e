"""What the GPUs of a node offer, going by what its agent has told of them alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property, lru_cache

import msgspec

from extender.packing.tables import Tables, tables
from extender.policy import Policy, PolicyName
from nodeagent.api import resources
from nodeagent.api.geometry import Geometry
from nodeagent.api.gpunode import Gpu, GpuNode, Layout


class NodeOffer(msgspec.Struct, frozen=True, dict=True):
    """What one node offers, whatever its plan says; *policy* says how states are scored."""

    node: GpuNode
    policy: Policy | PolicyName

    @property
    def name(self) -> str:
        """The Node's name."""
        return self.node.name

    @cached_property
    def usable(self) -> tuple[Gpu, ...]:
        """The GPUs on which instances may be placed, in the agent's order."""
        return tuple(
            gpu
            for gpu in self.node.status.gpus
            if gpu.mig_enabled
            and not gpu.unhealthy
            and gpu.layout is Layout.DYNAMIC
            and gpu.geometry in self._geometries
        )

    @cached_property
    def _geometries(self) -> set[str]:
        return {key for key, each in self.node.status.geometries.items() if each.sound}

    @cached_property
    def _tables(self) -> Mapping[str, Tables]:
        geometries = self.node.status.geometries
        return {key: tables(geometries[key], self.policy) for key in self._geometries}

    def _serves(self, gpu: Gpu) -> Mapping[str, int]:
        """Map what the GPU can serve, of all that is handed out here, to the profile behind it."""
        kind = (gpu.geometry, gpu.vgpu_types)
        known = self._served.get(kind)
        if known is not None:
            return known
        status = self.node.status
        types = status.vgpu_types.get(gpu.vgpu_types, ())
        served = resources.served(status.mode, status.geometries[gpu.geometry], types)
        if status.resources:
            served = {name: id for name, id in served.items() if name in status.resources}
        self._served[kind] = served
        return served

    @cached_property
    def _served(self) -> dict[tuple[str, str], Mapping[str, int]]:
        """What each kind of GPU serves: most nodes have eight of a kind."""
        return {}

    def _serves_now(self, gpu: Gpu) -> Mapping[str, int]:
        """Leave out what a rival plugin serves, and what somebody else's GPU instance would take.

        The driver chooses which free GPU instance of its profile backs a new vGPU.
        """
        served, rivals = self._serves(gpu), self.node.status.rivals
        vacant = {each.profile_id for each in gpu.instances if each.vacant}
        if not vacant and not rivals:
            return served
        return {
            name: profile
            for name, profile in served.items()
            if profile not in vacant and name not in rivals
        }

    @cached_property
    def offered(self) -> frozenset[str]:
        """The resources any usable GPU of the node serves, room or no room."""
        return _names(map(self._serves, self.usable))

    def profile_of(self, resource: str) -> str:
        """Return the name of the profile that serves *resource* here, "" if none does."""
        for gpu in self.usable:
            profile_id = self._serves(gpu).get(resource)
            if profile_id is not None:
                return self.node.status.geometries[gpu.geometry].by_id[profile_id].name
        return ""

    @cached_property
    def kind(self) -> object:
        """What nodes that serve the same things have in common."""
        status = self.node.status
        gpus = frozenset((gpu.geometry, gpu.vgpu_types) for gpu in self.usable)
        return status.mode, status.resources, gpus

    @property
    def sizes(self) -> frozenset[tuple[str, str, int]]:
        """What each resource may come to here: the profile, and its memory slices."""
        found = set()
        for gpu in self.usable:
            by_id = self.node.status.geometries[gpu.geometry].by_id
            for resource, profile_id in self._serves(gpu).items():
                found.add((resource, by_id[profile_id].name, by_id[profile_id].size))
        return frozenset(found)

    def profile_named(self, gpu: str, profile_id: int) -> str:
        """Return what the GPU's driver calls a profile today, "" if the GPU is gone."""
        geometry = self._geometry_of.get(gpu)
        profile = None if geometry is None else geometry.by_id.get(profile_id)
        return "" if profile is None else profile.name

    @cached_property
    def _geometry_of(self) -> Mapping[str, Geometry]:
        status = self.node.status
        return {
            gpu.uuid: status.geometries[gpu.geometry]
            for gpu in status.gpus
            if gpu.geometry in status.geometries
        }

    @cached_property
    def obtainable(self) -> frozenset[str]:
        """The resources of which nothing but a lack of room keeps a pod."""
        return _names(map(self._serves_now, self.usable))


WHATEVER_IS_PLANNED = (
    "usable",
    "_geometries",
    "_geometry_of",
    "_tables",
    "_served",
    "offered",
    "obtainable",
    "kind",
)
"""What of a view rests on the node's inventory alone."""


def _names(served: Iterable[Mapping[str, int]]) -> frozenset[str]:
    """Return all that is served; GPUs of a kind share one mapping."""
    return _the_one(frozenset().union(*{id(each): each for each in served}.values()))


@lru_cache(maxsize=1_024)  # nodes are of few kinds, and many of each
def _the_one(names: frozenset[str]) -> frozenset[str]:
    """Return the first of all sets equal to this one."""
    return names
