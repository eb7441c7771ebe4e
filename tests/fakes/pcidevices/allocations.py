"""What the controller notes of VMs: the devices each was given by the kubelet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from nodeagent.apiserver.protocol import PODS
from tests.fakes.pcidevices.names import (
    ALLOCATION,
    NODE_LABEL,
    VGPUS,
    VMIS,
    VMS,
    Version,
    variable,
)
from tests.fakes.pcidevices.objects import Metadata, Vgpu
from tests.fakes.pcidevices.store import Store

DOMAIN: Final = "kubevirt.io/domain"
LAUNCHER: Final = "kubevirt.io=virt-launcher"

Environment = Callable[[str], Mapping[str, str]]
"""The environment of a running pod's container, by the pod's UID: what ``env`` prints there."""


class _Vmi(msgspec.Struct, frozen=True):
    metadata: Metadata
    spec: dict[str, Any] = {}
    status: dict[str, Any] = {}

    @property
    def devices(self) -> Mapping[str, Any]:
        devices: Mapping[str, Any] = (self.spec.get("domain") or {}).get("devices") or {}
        return devices


class _Pod(msgspec.Struct, frozen=True):
    metadata: Metadata
    spec: dict[str, Any] = {}
    status: dict[str, Any] = {}


class Allocations:
    """The VMs of *node*: an annotation says what a running one has, and a stopped one keeps it."""

    def __init__(self, node: str, store: Store, version: Version, environment: Environment) -> None:
        self._node = node
        self._store = store
        self._version = version
        self._environment = environment
        self._running: dict[tuple[str, str], str] = {}

    async def work(self) -> None:
        """Annotate the VMs that run; name, in those that do not any more, the devices they had."""
        vmis = await self._store.listed(VMIS, _Vmi)
        there = {}
        for vmi in vmis:
            here = vmi.status.get("nodeName") == self._node
            asks = vmi.devices.get("gpus") or vmi.devices.get("hostDevices")
            if vmi.status.get("phase") == "Running" and here and asks:
                there[vmi.metadata.namespace, vmi.metadata.name] = vmi.metadata.uid
                await self._annotate(vmi)
        for key in self._running.keys() - there.keys():
            await self._name_devices(*key)
        self._running = there

    async def _annotate(self, vmi: _Vmi) -> None:
        name, namespace = vmi.metadata.name, vmi.metadata.namespace
        pods = await self._store.listed(PODS, _Pod, namespace=namespace, label_selector=LAUNCHER)
        mine = [
            pod
            for pod in pods
            if pod.metadata.annotations.get(DOMAIN) == name and pod.status.get("phase") == "Running"
        ]
        vm = await self._store.found(VMS, name, _Pod, namespace=namespace)
        if len(mine) != 1 or vm is None:
            return
        details = msgspec.json.encode(await self._details(vmi, mine[0])).decode()
        if vm.metadata.annotations.get(ALLOCATION) != details:
            patch = {"metadata": {"annotations": {ALLOCATION: details}}}
            await self._store.merge(VMS, name, patch, namespace=namespace)

    async def _details(self, vmi: _Vmi, pod: _Pod) -> Mapping[str, Mapping[str, list[str]]]:
        environment = self._environment(pod.metadata.uid)
        selector = f"{NODE_LABEL}={self._node}"
        vgpus = await self._store.listed(VGPUS, Vgpu, label_selector=selector)
        if self._version is Version.V1_7:
            names = {each.status.uuid: each.metadata.name for each in vgpus if each.status.uuid}
            member, kind = "gpus", "gpus"
        else:
            names = {each.spec.address: each.metadata.name for each in vgpus}
            member, kind = "hostDevices", "hostdevices"
        found: dict[str, list[str]] = {}
        for device in vmi.devices.get(member) or ():
            resource = device["deviceName"]
            ids = environment.get(variable(self._version, resource), "")
            found[resource] = [names.get(each, "") for each in ids.split(",") if each]
        return {kind: found} if found else {}

    async def _name_devices(self, namespace: str, name: str) -> None:
        vm = await self._store.found(VMS, name, _Pod, namespace=namespace)
        text = vm.metadata.annotations.get(ALLOCATION) if vm else None
        if vm is None or not text:
            return
        details = msgspec.json.decode(text)
        devices = vm.spec["template"]["spec"]["domain"].get("devices") or {}
        changed = {}
        for member, kind in (("gpus", "gpus"), ("hostDevices", "hostdevices")):
            left = {resource: list(names) for resource, names in (details.get(kind) or {}).items()}
            changed[member] = [
                each
                | (
                    {"name": left[each["deviceName"]].pop(0)}
                    if left.get(each["deviceName"])
                    else {}
                )
                for each in devices.get(member) or ()
            ]
        changed = {member: entries for member, entries in changed.items() if entries}
        patch = {"spec": {"template": {"spec": {"domain": {"devices": changed}}}}}
        await self._store.merge(VMS, name, patch, namespace=namespace)
