"""What a Harvester cluster must have before a VM may ask for a vGPU that nobody has made yet.

Harvester refuses a VirtualMachine whose type no object shows: on 1.7 the status of a VGPUDevice,
from 1.8 on that of a PCIDevice. And KubeVirt makes no launcher where the resource is not in
``permittedHostDevices``. So for each type that the fleet could make there are two objects that
stand for it, of a node that does not exist, and an entry that says what Harvester's own would say.
None of them takes a slice.

That Harvester's controllers leave objects of other nodes alone, and that nobody refuses the
deletion of one whose node is gone, is read in pcidevices v1.7.1; that 1.8 looks for the resource
name in whatever PCIDevice has it, likewise in v1.8.1. That neither minds an address that is no
device's is inferred.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from nodeagent.api import resources
from nodeagent.api.gpunode import GpuNode, Mode
from nodeagent.apiserver.protocol import Kind

VGPU_DEVICES: Final = Kind("devices.harvesterhci.io", "v1beta1", "vgpudevices", namespaced=False)
PCI_DEVICES: Final = Kind("devices.harvesterhci.io", "v1beta1", "pcidevices", namespaced=False)
KUBEVIRTS: Final = Kind("kubevirt.io", "v1", "kubevirts", namespaced=True)

LABEL: Final = "tangram.dev/bootstrap"
"""On the objects that stand for a type."""

NOWHERE: Final = "tangram-bootstrap"
"""The node these objects are of: there must never be one of that name."""

PERMITTED: Final = "tangram.dev/permitted"
"""Annotation on the KubeVirt: which of its entries are ours, by resource, and can go again."""

HARVESTER: Final = "devices.harvesterhci.io/v1beta1"


class Stand(msgspec.Struct, frozen=True):
    """An object that stands for a type, with the status it is to have."""

    kind: Kind
    body: Mapping[str, Any]
    status: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The object's name."""
        return str(self.body["metadata"]["name"])


Types = Mapping[str, str]
"""vGPU types by resource."""


def types_of(nodes: Iterable[GpuNode]) -> Types:
    """Return every type that the GPUs of Harvester nodes could make, each filling an instance."""
    found: dict[str, str] = {}
    for node in nodes:
        status = node.status
        if status.mode is not Mode.HARVESTER:
            continue
        for gpu in status.gpus:
            geometry = status.geometries.get(gpu.geometry)
            kinds = status.vgpu_types.get(gpu.vgpu_types, ())
            if geometry is None:
                continue
            served = resources.served(status.mode, geometry, kinds)
            for kind in kinds:
                # Harvester's spelling alone: it advertises no other.
                name = resources.of_vgpu_type(kind.name)[0]
                if name in served and (not status.resources or name in status.resources):
                    found[name] = kind.name
    return dict(sorted(found.items()))


def stands(types: Types) -> Iterator[Stand]:
    """Yield the objects that stand for *types*, on 1.7 and on 1.8: an upgrade finds both."""
    for resource, name in types.items():
        metadata = {"name": _name(name), "labels": {LABEL: "true", "nodename": NOWHERE}}
        spec = {
            "address": "",
            "enabled": False,
            "nodeName": NOWHERE,
            "parentGPUDeviceAddress": "",
            "vGPUTypeName": name,
        }
        yield Stand(
            VGPU_DEVICES,
            {"apiVersion": HARVESTER, "kind": "VGPUDevice", "metadata": metadata, "spec": spec},
            {"configureVGPUTypeName": name},
        )
        yield Stand(
            PCI_DEVICES,
            {"apiVersion": HARVESTER, "kind": "PCIDevice", "metadata": metadata, "spec": {}},
            {"nodeName": NOWHERE, "resourceName": resource, "description": f"stands for {name}"},
        )


def permitting(kubevirt: Mapping[str, Any], types: Types) -> Mapping[str, Any] | None:
    """Return the patch by which a KubeVirt permits *types* too, None if it does.

    The entries are those that Harvester 1.7 writes, so that it finds its own there. KubeVirt asks
    for the name alone, in whichever list; by ``externalResourceProvider`` it makes no plugin.
    """
    entries = _entries(kubevirt)
    ours = set(_ours(kubevirt))
    known = _known(kubevirt)
    missing = {resource: name for resource, name in types.items() if resource not in known}
    if not missing:
        return None
    added = [
        {"mdevNameSelector": name, "resourceName": resource, "externalResourceProvider": True}
        for resource, name in missing.items()
    ]
    return _patch([*entries, *added], ours | missing.keys())


def withdrawing(kubevirt: Mapping[str, Any], *, used: Collection[str]) -> Mapping[str, Any] | None:
    """Return the patch by which a KubeVirt permits no more what it did for us, None if nothing.

    What is *used* by a VirtualMachine stays, and is ours no more.
    """
    ours = set(_ours(kubevirt))
    if not ours and PERMITTED not in (kubevirt["metadata"].get("annotations") or {}):
        return None
    kept = [each for each in _entries(kubevirt) if each["resourceName"] not in ours - set(used)]
    return _patch(kept, ())


def asked_for(vm: Mapping[str, Any]) -> Iterator[str]:
    """Yield the resources of a VirtualMachine's devices."""
    devices = vm["spec"]["template"]["spec"].get("domain", {}).get("devices") or {}
    for member in ("gpus", "hostDevices"):
        for each in devices.get(member) or ():
            yield str(each.get("deviceName", ""))


def _patch(entries: Sequence[Any], ours: Collection[str]) -> Mapping[str, Any]:
    return {
        "metadata": {"annotations": {PERMITTED: ",".join(sorted(ours)) or None}},
        "spec": {"configuration": {"permittedHostDevices": {"mediatedDevices": list(entries)}}},
    }


def _entries(kubevirt: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = _permitted(kubevirt).get("mediatedDevices") or ()
    return found


def _known(kubevirt: Mapping[str, Any]) -> set[str]:
    lists = ("mediatedDevices", "pciHostDevices")
    permitted = _permitted(kubevirt)
    return {each["resourceName"] for member in lists for each in permitted.get(member) or ()}


def _permitted(kubevirt: Mapping[str, Any]) -> Mapping[str, Any]:
    configuration = (kubevirt.get("spec") or {}).get("configuration") or {}
    found: Mapping[str, Any] = configuration.get("permittedHostDevices") or {}
    return found


def _ours(kubevirt: Mapping[str, Any]) -> Iterator[str]:
    text = (kubevirt["metadata"].get("annotations") or {}).get(PERMITTED) or ""
    return (each for each in text.split(",") if each)


def _name(vgpu_type: str) -> str:
    """Return an object's name that tells the type, and differs for each.

    >>> _name("NVIDIA A100-1-5C")
    'tangram-nvidia-a100-1-5c-4c4c2e'
    """
    slug = re.sub("[^a-z0-9]+", "-", vgpu_type.lower()).strip("-")[:40].strip("-")
    return f"tangram-{slug}-{hashlib.sha256(vgpu_type.encode()).hexdigest()[:6]}"
