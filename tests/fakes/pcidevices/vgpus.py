"""What the controller makes of VGPUDevices: vGPUs, and devices of its device plugins."""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from tests.fakes.pcidevices.host import CommandFailed, Host
from tests.fakes.pcidevices.names import (
    API_VERSION,
    CONFIGURED,
    KUBEVIRT,
    KUBEVIRT_NAMESPACE,
    KUBEVIRTS,
    NODE_LABEL,
    OVERRIDE,
    PCI_CLAIMS,
    PCI_DEVICES,
    SKIP_BINDING,
    VGPUS,
    Version,
    resource_name,
)
from tests.fakes.pcidevices.objects import Metadata, Vgpu, VgpuStatus
from tests.fakes.pcidevices.store import Store

NO_VGPU_NAME = "nvidia.com/GA100_A100_VF"
"""The resource of a virtual function that holds no vGPU, on 1.8: of its vendor and product."""


class Plugins(Protocol):
    """The node's device plugins, one for each resource."""

    async def publish(self, resource: str, devices: Mapping[str, bool]) -> None:
        """Advertise *devices*, and whether each is healthy; a plugin of none is stopped."""


class _Object(msgspec.Struct, frozen=True):
    metadata: Metadata
    spec: dict[str, Any] = {}
    status: dict[str, Any] = {}


def observed(host: Host, function: str) -> VgpuStatus:
    """Return the status of a VGPUDevice as the kernel's files tell it."""
    vgpu = host.vgpu(function)
    if vgpu is None:
        return VgpuStatus(available_types=host.available(function))
    name = vgpu.uuid if host.version is Version.V1_7 else str(vgpu.type_id)
    return VgpuStatus(CONFIGURED, name, host.type_name(vgpu), host.available(function))


class Vgpus:
    """The vGPUs of *host*, as objects of *store*; UUIDs come of *chance*."""

    def __init__(self, host: Host, store: Store, plugins: Plugins, chance: random.Random) -> None:
        self._host = host
        self._store = store
        self._plugins = plugins
        self._chance = chance
        self._advertised: dict[str, dict[str, bool]] = {}

    async def on_vgpu(self, vgpu: Vgpu) -> bool:
        """Make or remove a vGPU, or note what there is; tell whether its siblings are affected."""
        found = observed(self._host, vgpu.spec.address)
        exists = found.vgpu_status == CONFIGURED
        if vgpu.spec.enabled and not exists:
            await self._enable(vgpu)
            return True
        if not vgpu.spec.enabled and exists:
            await self._disable(vgpu, found)
            return True
        if found != vgpu.status:
            await self._store.write_status(VGPUS, vgpu.metadata, found)
        elif vgpu.spec.enabled and vgpu.status.uuid:
            await self._advertise(vgpu)
        return False

    async def _enable(self, vgpu: Vgpu) -> None:
        kind, function = vgpu.spec.vgpu_type_name, vgpu.spec.address
        number = vgpu.status.available_types.get(kind)  # as the object remembers it
        if number is None:
            raise CommandFailed(f"VGPUType specified {kind} is not available for vGPU {function}")
        if self._host.version is Version.V1_7:
            text = str(uuid.UUID(int=self._chance.getrandbits(128), version=4))
        else:
            await self._claim(vgpu, kind)
            text = number
        self._store.step("create vGPU")
        self._host.create_vgpu(function, number, text)
        self._store.step("created vGPU")
        status = msgspec.structs.replace(vgpu.status, vgpu_status=CONFIGURED, uuid=text)
        await self._store.write_status(VGPUS, vgpu.metadata, status)

    async def _disable(self, vgpu: Vgpu, found: VgpuStatus) -> None:
        # What the object remembers is removed, be it what is there or not.
        self._store.step("remove vGPU")
        self._host.remove_vgpu(vgpu.spec.address, vgpu.status.uuid)
        self._store.step("removed vGPU")
        kind = vgpu.status.configured_type or found.configured_type
        await self._withdraw(resource_name(kind), self._device_id(vgpu))
        if self._host.version is Version.V1_8:
            await self._unclaim(vgpu)
        status = VgpuStatus(available_types=vgpu.status.available_types)
        await self._store.write_status(VGPUS, vgpu.metadata, status)

    # -- the device plugins ------------------------------------------------------------------------

    def _device_id(self, vgpu: Vgpu) -> str:
        return vgpu.status.uuid if self._host.version is Version.V1_7 else vgpu.spec.address

    async def _advertise(self, vgpu: Vgpu) -> None:
        await self._permit(vgpu.status.configured_type)
        resource, device = resource_name(vgpu.status.configured_type), self._device_id(vgpu)
        devices = self._advertised.setdefault(resource, {})
        if not devices.get(device):
            devices[device] = True
            self._store.step("advertise")
            await self._plugins.publish(resource, dict(devices))
            self._store.step("advertised")

    async def _withdraw(self, resource: str, device: str) -> None:
        """Show a device as unhealthy from now on; the plugin ends with its last healthy one."""
        devices = self._advertised.get(resource, {})
        if device not in devices:
            return
        devices[device] = False
        if not any(devices.values()):
            del self._advertised[resource]
        self._store.step("withdraw")
        await self._plugins.publish(resource, dict(self._advertised.get(resource, {})))
        self._store.step("withdrawn")

    async def _permit(self, kind: str) -> None:
        """Permit a type's resource to KubeVirt; nothing is ever taken back."""
        found = await self._store.found(KUBEVIRTS, KUBEVIRT, _Object, namespace=KUBEVIRT_NAMESPACE)
        if found is None:
            raise CommandFailed("error looking up kubevirt CR")
        configuration = found.spec.get("configuration") or {}
        permitted = configuration.get("permittedHostDevices") or {}
        if self._host.version is Version.V1_7:
            member = "mediatedDevices"
            entry = {"mdevNameSelector": kind, "resourceName": resource_name(kind)}
        else:
            member = "pciHostDevices"
            entry = {"pciVendorSelector": "10DE:20B5", "resourceName": resource_name(kind)}
        entries = permitted.get(member) or []
        if any(each["resourceName"] == entry["resourceName"] for each in entries):
            return
        changed = [*entries, entry | {"externalResourceProvider": True}]
        patch = {"spec": {"configuration": {"permittedHostDevices": {member: changed}}}}
        await self._store.merge(KUBEVIRTS, KUBEVIRT, patch, namespace=KUBEVIRT_NAMESPACE)

    # -- PCI devices, from 1.8 on ------------------------------------------------------------------

    async def ensure_pci_device(self, vgpu: Vgpu) -> None:
        """Create the PCIDevice of a virtual function, which 1.8 names as its VGPUDevice."""
        name = vgpu.metadata.name
        if await self._store.found(PCI_DEVICES, name, _Object) is not None:
            return
        labels = {NODE_LABEL: self._host.node}
        body = {
            "apiVersion": API_VERSION,
            "kind": "PCIDevice",
            "metadata": {"name": name, "labels": labels},
            "spec": {},
        }
        status = {
            "address": vgpu.spec.address,
            "nodeName": self._host.node,
            "resourceName": NO_VGPU_NAME,
        }
        await self._store.create(PCI_DEVICES, body, status=status)

    async def _claim(self, vgpu: Vgpu, kind: str) -> None:
        name, resource = vgpu.metadata.name, resource_name(kind)
        await self.ensure_pci_device(vgpu)
        annotations = {OVERRIDE: resource}
        await self._store.merge(PCI_DEVICES, name, {"metadata": {"annotations": annotations}})
        status = {"status": {"resourceName": resource}}
        await self._store.merge(PCI_DEVICES, name, status, subresource="status")
        if await self._store.found(PCI_CLAIMS, name, _Object) is None:
            body = {
                "apiVersion": API_VERSION,
                "kind": "PCIDeviceClaim",
                "metadata": {"name": name, "annotations": {SKIP_BINDING: "true"}},
                "spec": {"address": vgpu.spec.address, "nodeName": self._host.node},
            }
            await self._store.create(PCI_CLAIMS, body)

    async def _unclaim(self, vgpu: Vgpu) -> None:
        name = vgpu.metadata.name
        await self._store.delete(PCI_CLAIMS, name)
        if await self._store.found(PCI_DEVICES, name, _Object) is not None:
            patch = {"metadata": {"annotations": {OVERRIDE: None}}}
            await self._store.merge(PCI_DEVICES, name, patch)
            status = {"status": {"resourceName": NO_VGPU_NAME}}
            await self._store.merge(PCI_DEVICES, name, status, subresource="status")
