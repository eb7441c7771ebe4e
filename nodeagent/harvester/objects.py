"""Harvester's objects about GPUs, as far as the agent needs them: values, read once.

``devices.harvesterhci.io/v1beta1``, all cluster-scoped, as pcidevices v1.7.1 and v1.8.1 define
them; nothing in them is required, and every string may be null. The same fields mean the same in
1.7 (mdev) and 1.8 (vendor VFIO) but for one: a vGPU's ``uuid`` is its mdev's UUID in 1.7, and the
number of its type in 1.8.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from nodeagent.api.gpunode import OwnerRef
from nodeagent.api.keys import ASSIGNMENT_ANNOTATION, NEUTRAL_ANNOTATION
from nodeagent.apiserver.protocol import Kind

GROUP, VERSION = "devices.harvesterhci.io", "v1beta1"

# The plurals are inferred: those that Kubernetes' conventions give these kinds.
SRIOV_GPU_DEVICES = Kind(GROUP, VERSION, "sriovgpudevices", namespaced=False)
VGPU_DEVICES = Kind(GROUP, VERSION, "vgpudevices", namespaced=False)
MIG_CONFIGURATIONS = Kind(GROUP, VERSION, "migconfigurations", namespaced=False)

NODE_LABEL = "nodename"
"""On SRIOVGPUDevices and VGPUDevices: the node they are on. MigConfigurations tell it in the spec
alone, as far as is known."""
ALLOCATION_ANNOTATION = "harvesterhci.io/deviceAllocationDetails"
"""On a VirtualMachine: the devices it has, or had when it ran last, by resource."""

CONFIGURED = "vGPUConfigured"
VMI_KIND = "VirtualMachineInstance"
"""A launcher's owner; it has the name of its VirtualMachine."""


class Head(msgspec.Struct, frozen=True):
    """Which state of which object this is."""

    name: str
    uid: str
    version: str


class SriovGpuDevice(msgspec.Struct, frozen=True):
    """A GPU that Harvester knows; ``enabled`` is whether it has virtual functions."""

    head: Head
    address: str
    enabled: bool


class VgpuDevice(msgspec.Struct, frozen=True):
    """A virtual function, at ``address``, of the GPU at ``parent``, and the vGPU on it.

    ``enabled`` and ``type_name`` are what is wanted; ``configured``, ``uuid`` and
    ``configured_type`` what Harvester says there is. ``available`` are the names of the types it
    may be enabled with, as they were up to 30 seconds ago. ``assignment`` is for what we enabled
    it, "" if we did not.
    """

    head: Head
    address: str
    parent: str
    enabled: bool = False
    type_name: str = ""
    configured: bool = False
    uuid: str = ""
    configured_type: str = ""
    available: frozenset[str] = frozenset()
    assignment: str = ""

    @property
    def kind(self) -> str:
        """Its type; of a vGPU that was there before its object, only Harvester's status tells."""
        return self.type_name or self.configured_type


class Requested(msgspec.Struct, frozen=True):
    """How many GPU instances of a profile Harvester is to make, wherever the driver likes."""

    name: str
    id: int
    requested: int


class MigConfiguration(msgspec.Struct, frozen=True):
    """What Harvester is to do about the GPU instances of the GPU at ``address``.

    ``status`` is what it says of that: synced, out-of-sync or disabled. ``ours`` is whether we made
    it neutral.
    """

    head: Head
    address: str
    enabled: bool
    requested: tuple[Requested, ...] = ()
    status: str = ""
    ours: bool = False

    @property
    def asks(self) -> bool:
        """Whether it asks for any GPU instance."""
        return any(each.requested > 0 for each in self.requested)

    @property
    def neutral(self) -> bool:
        """Whether Harvester neither creates nor deletes GPU instances: it only compares.

        Read in the source, and not tried on a live cluster.
        """
        return self.enabled and not self.asks


class Objects(msgspec.Struct, frozen=True):
    """All of a node's, and who keeps a VGPUDevice: the VMs whose annotation names it, by its name.

    Harvester refuses to disable what a VM keeps, be it running or not.
    """

    gpus: tuple[SriovGpuDevice, ...] = ()
    vgpus: tuple[VgpuDevice, ...] = ()
    migs: tuple[MigConfiguration, ...] = ()
    keepers: Mapping[str, tuple[OwnerRef, ...]] = {}

    def gpu(self, address: str) -> SriovGpuDevice | None:
        """Return the object of the GPU at that PCI address."""
        return next((each for each in self.gpus if each.address == address), None)

    def mig(self, address: str) -> MigConfiguration | None:
        """Return the layout's object of the GPU at that PCI address."""
        return next((each for each in self.migs if each.address == address), None)

    def vgpus_of(self, address: str) -> tuple[VgpuDevice, ...]:
        """Return the virtual functions of the GPU at that PCI address, in a stable order."""
        mine = (each for each in self.vgpus if each.parent == address)
        return tuple(sorted(mine, key=lambda each: each.address))


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    annotations: dict[str, str] | None = None

    @property
    def head(self) -> Head:
        return Head(self.name, self.uid, self.resource_version)

    def annotation(self, name: str) -> str:
        return (self.annotations or {}).get(name, "")


class _GpuSpec(msgspec.Struct, frozen=True, rename="camel"):
    address: str | None = None
    node_name: str | None = None
    enabled: bool | None = None


class _Gpu(msgspec.Struct, frozen=True):
    metadata: _Metadata
    spec: _GpuSpec = _GpuSpec()


class _VgpuSpec(msgspec.Struct, frozen=True, rename="camel"):
    address: str | None = None
    enabled: bool | None = None
    type_name: str | None = msgspec.field(default=None, name="vGPUTypeName")
    parent: str | None = msgspec.field(default=None, name="parentGPUDeviceAddress")


class _VgpuStatus(msgspec.Struct, frozen=True, rename="camel"):
    status: str | None = msgspec.field(default=None, name="vGPUStatus")
    uuid: str | None = None
    type_name: str | None = msgspec.field(default=None, name="configureVGPUTypeName")
    available_types: dict[str, str] | None = None


class _Vgpu(msgspec.Struct, frozen=True):
    metadata: _Metadata
    spec: _VgpuSpec = _VgpuSpec()
    status: _VgpuStatus | None = None


class _Profile(msgspec.Struct, frozen=True):
    name: str | None = None
    id: int | None = None
    requested: int | None = None


class _MigSpec(msgspec.Struct, frozen=True, rename="camel"):
    enabled: bool | None = None
    gpu_address: str | None = None
    node_name: str | None = None
    profile_spec: tuple[_Profile, ...] | None = None


class _MigStatus(msgspec.Struct, frozen=True):
    status: str | None = None


class _Mig(msgspec.Struct, frozen=True):
    metadata: _Metadata
    spec: _MigSpec = _MigSpec()
    status: _MigStatus | None = None


class _Details(msgspec.Struct, frozen=True):
    gpus: dict[str, tuple[str, ...] | None] | None = None
    hostdevices: dict[str, tuple[str, ...] | None] | None = None


class _Vm(msgspec.Struct, frozen=True):
    metadata: _Metadata


_GPU = msgspec.json.Decoder(_Gpu)
_VGPU = msgspec.json.Decoder(_Vgpu)
_MIG = msgspec.json.Decoder(_Mig)
_VM = msgspec.json.Decoder(_Vm)
_DETAILS = msgspec.json.Decoder(_Details)


def sriov_gpu_device(raw: bytes) -> SriovGpuDevice:
    """Read an SRIOVGPUDevice."""
    found = _GPU.decode(raw)
    return SriovGpuDevice(
        found.metadata.head, found.spec.address or "", enabled=bool(found.spec.enabled)
    )


def vgpu_device(raw: bytes) -> VgpuDevice:
    """Read a VGPUDevice."""
    found = _VGPU.decode(raw)
    spec, status = found.spec, found.status or _VgpuStatus()
    return VgpuDevice(
        found.metadata.head,
        spec.address or "",
        spec.parent or "",
        enabled=bool(spec.enabled),
        type_name=spec.type_name or "",
        configured=status.status == CONFIGURED,
        uuid=status.uuid or "",
        configured_type=status.type_name or "",
        available=frozenset(status.available_types or ()),
        assignment=found.metadata.annotation(ASSIGNMENT_ANNOTATION),
    )


def mig_configuration(raw: bytes) -> tuple[str, MigConfiguration]:
    """Read a MigConfiguration: the node it is about, and what it says."""
    found = _MIG.decode(raw)
    spec, status = found.spec, found.status or _MigStatus()
    return spec.node_name or "", MigConfiguration(
        found.metadata.head,
        spec.gpu_address or "",
        enabled=bool(spec.enabled),
        requested=tuple(
            Requested(each.name or "", each.id or 0, each.requested or 0)
            for each in spec.profile_spec or ()
        ),
        status=status.status or "",
        ours=bool(found.metadata.annotation(NEUTRAL_ANNOTATION)),
    )


def keeper(raw: bytes) -> tuple[OwnerRef, frozenset[str]]:
    """Read what a VirtualMachine keeps: who its launchers' owner is, and the VGPUDevices' names.

    In 1.8 they are told among the host devices, by the same names: inferred, from how both kinds
    of object are named.
    """
    metadata = _VM.decode(raw).metadata
    owner = OwnerRef(VMI_KIND, metadata.namespace, metadata.name)
    text = metadata.annotation(ALLOCATION_ANNOTATION)
    return owner, frozenset(_named(_DETAILS.decode(text))) if text else frozenset()


def _named(details: _Details) -> Iterator[str]:
    for devices in (details.gpus or {}, details.hostdevices or {}):
        for names in devices.values():
            yield from names or ()
