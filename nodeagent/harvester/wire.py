"""From the API server's JSON to Harvester's objects as the agent knows them.

Nothing in them is required, and every member may be null.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec

from nodeagent.api.gpunode import OwnerRef
from nodeagent.api.keys import ASSIGNMENT_ANNOTATION, HANDED_BACK, NEUTRAL_ANNOTATION
from nodeagent.harvester.objects import (
    Head,
    Keeper,
    MigConfiguration,
    Requested,
    SriovGpuDevice,
    VgpuDevice,
)

ALLOCATION_ANNOTATION = "harvesterhci.io/deviceAllocationDetails"
"""On a VirtualMachine: the devices it has, or had when it ran last, by resource."""

CONFIGURED = "vGPUConfigured"
VMI_KIND = "VirtualMachineInstance"
"""A launcher's owner; it has the name of its VirtualMachine."""


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
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


class _Asked(msgspec.Struct, frozen=True, rename="camel"):
    device_name: str | None = None


class _VmDevices(msgspec.Struct, frozen=True, rename="camel"):
    gpus: tuple[_Asked, ...] | None = None
    host_devices: tuple[_Asked, ...] | None = None


class _Domain(msgspec.Struct, frozen=True):
    devices: _VmDevices | None = None


class _VmiSpec(msgspec.Struct, frozen=True):
    domain: _Domain | None = None


class _Template(msgspec.Struct, frozen=True):
    spec: _VmiSpec | None = None


class _VmSpec(msgspec.Struct, frozen=True):
    template: _Template | None = None


class _Vm(msgspec.Struct, frozen=True):
    metadata: _Metadata
    spec: _VmSpec | None = None

    @property
    def asks(self) -> Counter[str]:
        """How many devices it asks for, by resource."""
        template = self.spec.template if self.spec else None
        domain = template.spec.domain if template and template.spec else None
        devices = (domain.devices if domain else None) or _VmDevices()
        every = (*(devices.gpus or ()), *(devices.host_devices or ()))
        return Counter(each.device_name for each in every if each.device_name)


_GPU = msgspec.json.Decoder(_Gpu)
_VGPU = msgspec.json.Decoder(_Vgpu)
_MIG = msgspec.json.Decoder(_Mig)
_VM = msgspec.json.Decoder(_Vm)
_DETAILS = msgspec.json.Decoder(_Details)


def sriov_gpu_device(raw: bytes) -> SriovGpuDevice:
    """Read an SRIOVGPUDevice.

    An object's generation is 1 at first, and counts the changes of its spec: none of its metadata
    and, as it has a status subresource, none of its status.
    """
    found = _GPU.decode(raw)
    return SriovGpuDevice(
        found.metadata.head,
        found.spec.address or "",
        enabled=bool(found.spec.enabled),
        as_made=found.metadata.generation <= 1,
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
    mark = found.metadata.annotation(NEUTRAL_ANNOTATION)
    return spec.node_name or "", MigConfiguration(
        found.metadata.head,
        spec.gpu_address or "",
        enabled=bool(spec.enabled),
        requested=tuple(
            Requested(each.name or "", each.id or 0, each.requested or 0)
            for each in spec.profile_spec or ()
        ),
        status=status.status or "",
        ours=bool(mark),
        leaving=mark == HANDED_BACK,
    )


def keeper(raw: bytes) -> Keeper:
    """Read which VGPUDevices a VirtualMachine names, and which of them it may call its own.

    Whoever may edit a VM may write there what he likes, so it is held against what the VM asks for.
    In 1.8 they are told among the host devices, by the same names: inferred, from how both kinds
    of object are named.
    """
    vm = _VM.decode(raw)
    owner = OwnerRef(VMI_KIND, vm.metadata.namespace, vm.metadata.name)
    text = vm.metadata.annotation(ALLOCATION_ANNOTATION)
    named = tuple(dict.fromkeys(_named(_DETAILS.decode(text)))) if text else ()
    left = vm.asks
    kept = []
    for resource, device in named:
        if left[resource] > 0:
            left[resource] -= 1
            kept.append((resource, device))
    return Keeper(owner, frozenset(kept), frozenset(device for _, device in named))


def _named(details: _Details) -> Iterator[tuple[str, str]]:
    for devices in (details.gpus or {}, details.hostdevices or {}):
        for resource, names in devices.items():
            yield from ((resource, name) for name in names or ())
