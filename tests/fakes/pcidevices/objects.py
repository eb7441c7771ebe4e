"""Harvester's objects as its controller reads them, and where one of them belongs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


class Metadata(msgspec.Struct, frozen=True, rename="camel"):
    """What all objects have."""

    name: str
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    namespace: str = ""
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    deletion_timestamp: str = ""


class _SriovSpec(msgspec.Struct, frozen=True, rename="camel"):
    address: str = ""
    node_name: str = ""
    enabled: bool = False


class SriovStatus(
    msgspec.Struct,
    frozen=True,
    rename={"vf_addresses": "vfAddresses", "vgpu_devices": "vGPUDevices"},
    omit_defaults=True,
):
    """The virtual functions of a GPU, and the names of their VGPUDevices."""

    vf_addresses: tuple[str, ...] = ()
    vgpu_devices: tuple[str, ...] = ()


class SriovGpu(msgspec.Struct, frozen=True):
    """An SRIOVGPUDevice."""

    metadata: Metadata
    spec: _SriovSpec = _SriovSpec()
    status: SriovStatus = SriovStatus()


class VgpuSpec(
    msgspec.Struct,
    frozen=True,
    rename={
        "vgpu_type_name": "vGPUTypeName",
        "node_name": "nodeName",
        "parent_address": "parentGPUDeviceAddress",
    },
):
    """What a VGPUDevice is to be."""

    vgpu_type_name: str = ""
    address: str = ""
    enabled: bool = False
    node_name: str = ""
    parent_address: str = ""


class VgpuStatus(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    rename={
        "vgpu_status": "vGPUStatus",
        "configured_type": "configureVGPUTypeName",
        "available_types": "availableTypes",
    },
):
    """What a VGPUDevice is: ``uuid`` is the mdev's, on 1.8 the number of the vGPU's type."""

    vgpu_status: str = ""
    uuid: str = ""
    configured_type: str = ""
    available_types: Mapping[str, str] = {}


class Vgpu(msgspec.Struct, frozen=True):
    """A VGPUDevice."""

    metadata: Metadata
    spec: VgpuSpec = VgpuSpec()
    status: VgpuStatus = VgpuStatus()


class ProfileRequest(msgspec.Struct, frozen=True):
    """How many GPU instances of a profile a MigConfiguration wants."""

    name: str
    id: int
    requested: int = 0


class ProfileStatus(msgspec.Struct, frozen=True, rename={"instances": "vGPUID"}):
    """What there is of a profile; ``vGPUID`` are ids of GPU instances, whatever its name says."""

    name: str
    id: int
    available: int = 0
    total: int = 0
    instances: tuple[str, ...] = ()


class MigSpec(
    msgspec.Struct,
    frozen=True,
    rename={"gpu_address": "gpuAddress", "node_name": "nodeName", "profiles": "profileSpec"},
):
    """What a MigConfiguration asks for."""

    enabled: bool = False
    gpu_address: str = ""
    node_name: str = ""
    profiles: tuple[ProfileRequest, ...] = ()


class MigStatus(msgspec.Struct, frozen=True, rename={"profiles": "profileStatus"}):
    """What a MigConfiguration's GPU was seen to hold."""

    profiles: tuple[ProfileStatus, ...] = ()
    status: str = ""


class Mig(msgspec.Struct, frozen=True):
    """A MigConfiguration."""

    metadata: Metadata
    spec: MigSpec = MigSpec()
    status: MigStatus = MigStatus()


def builtins(value: Any) -> Any:
    """Return *value* as JSON knows it."""
    return msgspec.to_builtins(value)
