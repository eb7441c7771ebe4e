"""The GpuNode object: its spec is the plan, its status is the inventory.

``gpunodes.tangram.dev/v1alpha1``, cluster-scoped, named like its Node. Only the extender writes
the plan, only that node's agent writes the inventory. Fields are omitted where they equal their
default, for the object is written four times in each VM's life and read by every replica.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import TypeVar

import msgspec

from nodeagent.api import keys
from nodeagent.api.geometry import Count, Geometry, Placement, Size, Start


class _Wire(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """How every value of this module looks as JSON.

    Values are trees: the garbage collector would find no cycle in them, and looking for one in
    those of thousands of nodes takes a third of a second (measured), in the middle of an answer.
    """


class PodRef(_Wire, frozen=True):
    """The pod an assignment belongs to; the UID tells a pod from its successor of the same name."""

    namespace: str
    name: str
    uid: str


class OwnerRef(_Wire, frozen=True):
    """What a pod stands for, such as a VirtualMachineInstance: kept when the pod is replaced."""

    kind: str
    namespace: str
    name: str


class Assignment(_Wire, frozen=True):
    """One GPU instance promised: a *reservation* for its owner while it has no pod.

    ``gpu`` is the GPU's UUID; ``start`` and ``size`` are memory slices; ``since`` is RFC 3339 UTC,
    for people and for the order in which equal claims are served, never for expiry. ``seat`` is
    reserved in the format for the place within a GPU instance that several vGPUs share; nobody
    reads it.
    """

    id: str
    gpu: str
    profile_id: Count
    start: Start
    size: Size
    resource: str
    since: str
    pod: PodRef | None = None
    owner: OwnerRef | None = None
    seat: Count = 0

    @property
    def placement(self) -> Placement:
        """Where on its GPU the instance sits."""
        return Placement(self.start, self.size)


class Plan(_Wire, frozen=True):
    """The spec of a GpuNode: what should be."""

    assignments: tuple[Assignment, ...] = ()


class Mode(StrEnum):
    """How a node hands GPU instances out; one per node, since a vGPU host serves no containers."""

    CONTAINER = "container"
    VGPU_MDEV = "vgpu-mdev"
    VGPU_VFIO = "vgpu-vfio"
    HARVESTER = "harvester"


class Layout(StrEnum):
    """Whether the agent creates instances on a GPU, hands out those it finds, or lets it be."""

    DYNAMIC = "dynamic"
    STATIC = "static"
    UNMANAGED = "unmanaged"


class VgpuType(_Wire, frozen=True):
    """A MIG-backed vGPU type as the driver names it, and the one profile that backs it."""

    name: str
    profile_id: Count
    max_per_instance: int = 1


class Instance(_Wire, frozen=True):
    """A GPU instance that exists; ``assignment`` is what it was made for, "" if not by us.

    Of those not made by us, ``holder`` is the pod that has one for the ``resource`` it asked for,
    where an assignment may adopt it; a ``vacant`` one would take the next vGPU of its profile. Of
    those made by us it is the pod whose assignment has left the plan, and is to be written again.

    With Harvester the kubelet picks among what is there: ``holder`` may have what was made for
    another pod's assignment. A ``standing`` one has a device for ``resource`` that nobody has, and
    that stays; ``keepers`` are the owners whose it was last, and who come first.
    """

    gi_id: int
    profile_id: Count
    start: Start
    size: Size
    assignment: str = ""
    holder: PodRef | None = None
    resource: str = ""
    vacant: bool = False
    standing: bool = False
    keepers: tuple[OwnerRef, ...] = ()

    @property
    def placement(self) -> Placement:
        """Where on its GPU the instance sits."""
        return Placement(self.start, self.size)


class Gpu(_Wire, frozen=True):
    """One physical GPU. ``geometry`` and ``vgpu_types`` are content hashes into the inventory.

    ``unhealthy`` is why nothing new may be placed here, "" when healthy.
    """

    uuid: str
    pci_address: str
    model: str
    geometry: str
    vgpu_types: str = ""
    numa_node: int = -1
    mig_enabled: bool = True
    layout: Layout = Layout.DYNAMIC
    unhealthy: str = ""
    instances: tuple[Instance, ...] = ()


class Realized(_Wire, frozen=True):
    """An assignment whose instance exists, and the device slot the kubelet will hand out for it.

    ``slot`` is "" where the pod was given its device before the assignment was written (adopted).
    """

    id: str
    slot: str = ""


class Failed(_Wire, frozen=True):
    """An assignment the agent cannot realize; ``reason`` names the driver's call and error."""

    id: str
    reason: str


class Summary(_Wire, frozen=True, omit_defaults=False):
    """The inventory at a glance, for ``kubectl get gpunodes``; slices are memory slices."""

    # Written out even where default: kubectl would show an omitted 0 as an empty column.
    gpus: int = 0
    free_slices: int = 0
    total_slices: int = 0
    largest_placeable: str = ""


class Condition(_Wire, frozen=True):
    """A Kubernetes condition, as far as Tangram sets it."""

    type: str
    status: str
    reason: str
    message: str = ""
    last_transition_time: str = ""


class Inventory(_Wire, frozen=True):
    """The status of a GpuNode: what is.

    ``boot_id`` changes with the node's boot, ``agent_epoch`` with the agent's process and
    ``sequence`` with each report. ``observed_generation`` is the newest plan taken account of.
    ``resources`` are the only ones handed out here, none for no such restriction; ``rivals`` those
    that another device plugin advertises, too.
    """

    boot_id: str = ""
    agent_epoch: str = ""
    sequence: int = 0
    observed_generation: int = 0
    driver: str = ""
    mode: Mode = Mode.CONTAINER
    simulated: bool = False
    summary: Summary = Summary()
    geometries: dict[str, Geometry] = {}
    vgpu_types: dict[str, tuple[VgpuType, ...]] = {}
    gpus: tuple[Gpu, ...] = ()
    resources: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    realized: tuple[Realized, ...] = ()
    failed: tuple[Failed, ...] = ()
    conditions: tuple[Condition, ...] = ()


class Metadata(_Wire, frozen=True):
    """As much of an object's metadata as decisions need."""

    name: str
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    deletion_timestamp: str = ""
    annotations: dict[str, str] = {}


class GpuNode(_Wire, frozen=True):
    """One node's plan and inventory."""

    metadata: Metadata
    spec: Plan = Plan()
    status: Inventory = Inventory()
    api_version: str = keys.API_VERSION
    kind: str = keys.GPU_NODE_KIND

    @property
    def name(self) -> str:
        """The name of the Node this is about."""
        return self.metadata.name

    @property
    def version(self) -> int:
        """Where this state stands among the object's others: the newer has the larger version."""
        return version_number(self.metadata.resource_version)


class Decision(_Wire, frozen=True):
    """What was decided for one device of a pod, as its annotation tells it.

    ``policy_version`` is the policy's that was in force when the pod was bound.
    """

    id: str
    gpu: str
    profile: str
    profile_id: Count
    start: Start
    size: Size
    resource: str
    policy_version: str = ""


def version_number(version: str) -> int:
    """Return where a resource version stands among others of the kind.

    They may be compared as integers, as Kubernetes promises since 1.35 and kube-apiserver has
    always let be. One that is none (and none at all) counts as the oldest.
    """
    return int(version) if version.isdecimal() else 0


def decode(raw: bytes) -> GpuNode:
    """Read a GpuNode from JSON.

    What thousands of nodes have in common is one object in memory, with what is worked out of it;
    so is each name that one node bears several times.

    Raises:
        msgspec.ValidationError: with the path of the offending field.
    """
    node = _DECODER.decode(raw)
    _share(node)
    return node


def _share(node: GpuNode) -> None:
    """Put one object in the place of all that are equal: nobody can tell, and a third is saved."""
    status = node.status
    for key, geometry in status.geometries.items():
        status.geometries[key] = _the_one(geometry)
    for key, types in status.vgpu_types.items():
        status.vgpu_types[key] = _the_one(types)
    names: dict[str, str] = {}
    put, own = msgspec.structs.force_setattr, names.setdefault
    for gpu in status.gpus:
        names[gpu.uuid] = gpu.uuid
        put(gpu, "pci_address", _the_one(gpu.pci_address))
        put(gpu, "model", _the_one(gpu.model))
        put(gpu, "geometry", _the_one(gpu.geometry))
        put(gpu, "vgpu_types", _the_one(gpu.vgpu_types))
    for entry in node.spec.assignments:
        names[entry.id] = entry.id
        put(entry, "gpu", own(entry.gpu, entry.gpu))
        put(entry, "resource", _the_one(entry.resource))
        if entry.pod is not None:
            put(entry.pod, "namespace", own(entry.pod.namespace, entry.pod.namespace))
        if entry.owner is not None:
            put(entry.owner, "kind", _the_one(entry.owner.kind))
            put(entry.owner, "namespace", own(entry.owner.namespace, entry.owner.namespace))
            put(entry.owner, "name", own(entry.owner.name, entry.owner.name))
    for gpu in status.gpus:
        for there in gpu.instances:
            put(there, "assignment", own(there.assignment, there.assignment))
    for made in status.realized:
        put(made, "id", own(made.id, made.id))


_Equal = TypeVar("_Equal")


@lru_cache(maxsize=1_024)  # a cluster has a few kinds of GPUs; an agent gone mad might report many
def _the_one(value: _Equal) -> _Equal:
    """Return the first of all values equal to this one."""
    return value


_DECODER = msgspec.json.Decoder(GpuNode)
