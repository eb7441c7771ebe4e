"""What Harvester's webhooks refuse, and rewrite: pure functions of objects.

Objects are as the API server holds them: these rules see what clients write, null and missing
members included. A refusal is the webhook's message, "" means that it lets the request pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from tests.fakes.pcidevices.names import (
    ALLOCATION,
    OUT_OF_SYNC,
    PARENT_LABEL,
    SYNCED,
    Version,
    resource_name,
)

Value = Mapping[str, Any]

MOST_INSTANCES = 7


def vgpu_updated(old: Value, new: Value, vms: Iterable[Value]) -> str:
    """Judge a change of a VGPUDevice."""
    before, after = _spec(old), _spec(new)
    name = new["metadata"]["name"]
    if before == after:
        return ""
    if before.get("enabled") and not after.get("enabled"):
        return vgpu_used(name, vms)
    if not before.get("enabled") and after.get("enabled"):
        wanted = after.get("vGPUTypeName") or ""
        if not wanted:
            return f"VGPUTypeName cannot be empty for vGPU device {name}"
        if wanted not in (_status(old).get("availableTypes") or {}):
            return f"VGPUTypeName {wanted} is not a valid profile for vGPU device {name}"
    return ""


def is_blind(old: Value, new: Value) -> bool:
    """Tell whether a VGPUDevice is disabled that has no uuid yet; Harvester lets that pass."""
    return bool(
        _spec(old).get("enabled") and not _spec(new).get("enabled") and not _status(old).get("uuid")
    )


def vgpu_used(name: str, vms: Iterable[Value]) -> str:
    """Judge the disabling or deletion of a VGPUDevice: a VM that ran with it keeps it, stopped."""
    for vm in vms:
        if name in allocated(vm):
            metadata = vm["metadata"]
            return (
                f"device {name} is in use with VM {metadata['name']} in namespace"
                f" {metadata['namespace']}"
            )
    return ""


def mig_updated(old: Value, new: Value, vgpus: Iterable[Value]) -> str:
    """Judge a change of a MigConfiguration."""
    before, after = _spec(old), _spec(new)
    name = new["metadata"]["name"]
    wanted = after.get("profileSpec") or ()
    count = sum(each.get("requested") or 0 for each in wanted)
    if count > MOST_INSTANCES:
        return f"Cannot have more than {MOST_INSTANCES} instances defined, found {count}"
    frozen = _status(old).get("status") in (SYNCED, OUT_OF_SYNC)
    if frozen and (before.get("profileSpec") or ()) != wanted:
        return f"MIGConfiguration {name} cannot be modified unless configuration is disabled"
    if not before.get("enabled") and after.get("enabled"):
        there = {
            each["id"]: each.get("available") or 0
            for each in _status(new).get("profileStatus") or ()
        }
        for each in wanted:
            if (each.get("requested") or 0) > there.get(each["id"], 0):
                return f"{each['name']}: {each['requested']} exceeds {there.get(each['id'], 0)}"
    if before.get("enabled") and not after.get("enabled"):
        for vgpu in vgpus:
            labels = vgpu["metadata"].get("labels") or {}
            if labels.get(PARENT_LABEL) == name and _spec(vgpu).get("enabled"):
                return (
                    f"cannot disable MIGConfiguration {name} as vGPU"
                    f" {vgpu['metadata']['name']} is enabled"
                )
    return ""


def stays_frozen(old: Value, new: Value, *, empty: bool) -> bool:
    """Tell whether a MigConfiguration is disabled whose counts nobody can change from then on.

    Harvester lets that pass. It thaws them as it deletes what is on the GPU, which must not be
    *empty*, or as it looks at an enabled one whose GPU is.
    """
    disabled = _spec(old).get("enabled") and not _spec(new).get("enabled")
    return bool(disabled and empty and _status(old).get("status") in (SYNCED, OUT_OF_SYNC))


def gpu_updated(old: Value, new: Value, vms: Sequence[Value]) -> str:
    """Judge a change of an SRIOVGPUDevice."""
    if _spec(old).get("enabled") and not _spec(new).get("enabled"):
        for name in _status(new).get("vGPUDevices") or ():
            if refusal := vgpu_used(name, vms):
                return refusal
    return ""


def gpu_deleted(gpu: Value) -> str:
    """Judge the deletion of an SRIOVGPUDevice."""
    if _spec(gpu).get("enabled"):
        return f"please disable gpuDevice {gpu['metadata']['name']} before deletion"
    return ""


def vm_rewritten(version: Version, vm: Value) -> Value:
    """Return a VirtualMachine as it is stored: from 1.8 on its ``gpus`` are host devices."""
    devices = _devices(vm)
    gpus = devices.get("gpus") or []
    if version is Version.V1_7 or not gpus:
        return vm
    copy: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(vm))
    inside = copy["spec"]["template"]["spec"]["domain"]["devices"]
    del inside["gpus"]
    inside["hostDevices"] = [*(devices.get("hostDevices") or []), *gpus]
    return copy


def vm_written(
    version: Version, vm: Value, vgpus: Iterable[Value], pci_devices: Iterable[Value]
) -> str:
    """Judge a VirtualMachine: some object must show each of its devices' resource names."""
    if version is Version.V1_7:
        asked = [each["deviceName"] for each in _devices(vm).get("gpus") or ()]
        kinds = (_status(each).get("configureVGPUTypeName") or "" for each in vgpus)
        known = {resource_name(kind) for kind in kinds if kind}
    else:
        asked = [each["deviceName"] for each in _devices(vm).get("hostDevices") or ()]
        known = {_status(each).get("resourceName") or "" for each in pci_devices}
    for each in asked:
        if each not in known:
            return f"resource name {each} not found in pcidevice cache"
    return ""


def allocated(vm: Value) -> Iterator[str]:
    """Yield the devices a VirtualMachine has, or keeps."""
    text = (vm["metadata"].get("annotations") or {}).get(ALLOCATION)
    details = msgspec.json.decode(text) if text else {}
    for kind in ("gpus", "hostdevices"):
        for names in (details.get(kind) or {}).values():
            yield from names


def _spec(value: Value) -> Value:
    return value.get("spec") or {}


def _status(value: Value) -> Value:
    return value.get("status") or {}


def _devices(vm: Value) -> Value:
    devices: Value = vm["spec"]["template"]["spec"]["domain"].get("devices") or {}
    return devices
