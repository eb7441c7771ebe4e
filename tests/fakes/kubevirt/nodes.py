"""What a node does with launcher pods: its kubelet admits them, QEMU opens the vGPUs they got."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

import msgspec

from nodeagent.apiserver.protocol import (
    NODES,
    PODS,
    ApiError,
    ApiServer,
    Conflict,
    NotFound,
    PatchType,
)
from nodeagent.apiserver.reflector import reflect
from tests.fakes.kubelet import Container, FakeKubelet, NotAdmitted, Pod
from tests.fakes.kubevirt.launcher import LAUNCHER
from tests.fakes.pcidevices import log as deeds
from tests.fakes.pcidevices.host import Host
from tests.fakes.pcidevices.names import Version, variable

Value = dict[str, Any]

KUBELET, LAUNCHER_ITSELF = "kubelet", "virt-launcher"
"""Who refuses to run a launcher, in the log of deeds: it was not admitted, or finds no device."""

LOOK_SECONDS = 0.05
"""How often the kubelet's devices are compared with the Node."""


class LauncherNode:
    """The node of *host*, whose *kubelet* serves; pods are taken from *api*, and told of there."""

    def __init__(self, api: ApiServer, host: Host, kubelet: FakeKubelet) -> None:
        self.kubelet = kubelet
        self._api = api
        self._host = host
        self._pods: dict[str, Pod] = {}
        self._advertised: dict[str, int] = {}
        self._opened: dict[str, tuple[str, ...]] = {}

    @property
    def name(self) -> str:
        """The Node's."""
        return self._host.node

    def environment(self, uid: str) -> Mapping[str, str]:
        """Return what ``env`` prints in the container of a pod, as far as plugins have set it."""
        pod = self._pods.get(uid)
        found: dict[str, str] = {}
        for entry in self.kubelet.entries_of(pod) if pod else ():
            found.update(entry.answer.envs)
        return found

    def devices(self, uid: str) -> tuple[str, ...]:
        """Return the virtual functions whose vGPUs the VM in a pod has open."""
        return self._opened.get(uid, ())

    def open_beside(self, uid: str) -> frozenset[str]:
        """Return the virtual functions whose vGPUs the VMs in other pods have open."""
        return frozenset(
            function
            for other, functions in self._opened.items()
            if other != uid
            for function in functions
        )

    async def run(self) -> None:
        """Advertise, admit and end, until cancelled."""
        changed = asyncio.Event()

        async def follow() -> None:
            changes = reflect(
                self._api,
                PODS,
                label_selector=LAUNCHER,
                field_selector=f"spec.nodeName={self.name}",
            )
            async with contextlib.aclosing(changes):
                async for _ in changes:
                    changed.set()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(follow(), name=f"{self.name}-pods")
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await changed.wait()
                due = changed.is_set()
                changed.clear()
                with contextlib.suppress(ApiError):  # it is done again at the next look
                    await self.advertise()
                    if due:
                        await self.work()

    async def advertise(self) -> None:
        """Show the kubelet's devices in the Node's status, as the kubelet does."""
        counts = dict(self.kubelet.allocatable)
        if counts != self._advertised:
            amounts = {
                resource: str(count)
                for resource, count in (dict.fromkeys(self._advertised, 0) | counts).items()
            }
            patch = {"status": {"capacity": amounts, "allocatable": amounts}}
            await self._api.patch(
                NODES, self.name, patch, patch_type=PatchType.MERGE, subresource="status"
            )
            self._advertised = counts

    async def work(self) -> None:
        """Bring every launcher on the node to where it should be."""
        selector = f"spec.nodeName={self.name}"
        page = await self._api.list(
            PODS, label_selector=LAUNCHER, field_selector=selector, limit=10_000
        )
        pods: list[Value] = [msgspec.json.decode(raw) for raw in page.items]
        there = {pod["metadata"]["uid"] for pod in pods}
        for uid in self._pods.keys() - there:
            self._ended(uid)
        for pod in pods:
            with contextlib.suppress(NotFound, Conflict):
                await self._settle(pod)

    def reboot(self) -> None:
        """Reboot: VMs are gone, and so is all that the GPUs held; pods are found failed later."""
        for uid in list(self._opened):
            self._close(uid)
        self._host.rebooted()

    async def _settle(self, pod: Value) -> None:
        metadata, phase = pod["metadata"], pod["status"]["phase"]
        uid = metadata["uid"]
        if "deletionTimestamp" in metadata:
            self._ended(uid)
            await self._api.delete(
                PODS, metadata["name"], namespace=metadata["namespace"], uid=uid, grace_seconds=0
            )
        elif phase == "Running" and uid in self._pods and not self._opened.get(uid):
            self._ended(uid)
            await self._tell(pod, "Failed", "NodeRebooted")
        elif phase == "Pending" and uid not in self._pods:
            await self._admit(pod)

    async def _admit(self, pod: Value) -> None:
        metadata = pod["metadata"]
        containers = tuple(
            Container(
                each["name"],
                {
                    name: int(amount)
                    for name, amount in (each["resources"].get("limits") or {}).items()
                    if name.startswith("nvidia.com/")
                },
            )
            for each in pod["spec"]["containers"]
        )
        uid = metadata["uid"]
        mine = Pod(metadata["name"], containers, namespace=metadata["namespace"], uid=uid)
        self._pods[uid] = mine
        try:
            await self.kubelet.admit(mine)
        except NotAdmitted as reason:
            self._ended(uid)
            subject = f"pods {metadata['name']}"
            self._host.log.add(KUBELET, deeds.REFUSED, subject, f"{self.name}: {reason}")
            await self._tell(pod, "Failed", "UnexpectedAdmissionError", str(reason))
            return
        if missing := self._open(uid, containers[0].limits):
            self._ended(uid)
            what = f"{self.name}: no device of {missing}"
            self._host.log.add(LAUNCHER_ITSELF, deeds.REFUSED, f"pods {metadata['name']}", what)
            await self._tell(pod, "Failed", "", f"the VM finds no device of {missing}")
            return
        await self._tell(pod, "Running")

    def _open(self, uid: str, wanted: Mapping[str, int]) -> str:
        """Let QEMU open what the launcher was told of; return the resource that is short, or ""."""
        environment = self.environment(uid)
        functions: list[str] = []
        for resource, count in wanted.items():
            text = environment.get(variable(self._host.version, resource), "")
            found = [self._function(device) for device in text.split(",") if device]
            if len(found) != count or "" in found:
                return resource
            functions += found
        for function in functions:
            self._set_open(function, True)
        self._opened[uid] = tuple(functions)
        return ""

    def _function(self, device: str) -> str:
        for gpu in self._host.gpus.values():
            for address, number in self._host.functions(gpu).items():
                vgpu = self._host.vgpu(address)
                if vgpu is None:
                    continue
                name = vgpu.uuid if self._host.version is Version.V1_7 else address
                if name == device:
                    assert vgpu.function == number
                    return address
        return ""

    def _set_open(self, function: str, opened: bool) -> None:
        gpu = self._host.parent(function)
        with contextlib.suppress(OSError):  # gone, by a reboot
            self._host.kernel.open(gpu, self._host.functions(gpu)[function], opened)

    def _close(self, uid: str) -> None:
        for function in self._opened.pop(uid, ()):
            self._set_open(function, False)

    def _ended(self, uid: str) -> None:
        pod = self._pods.pop(uid, None)
        if pod is not None:
            self.kubelet.end(pod)
        self._close(uid)

    async def _tell(self, pod: Value, phase: str, reason: str = "", message: str = "") -> None:
        metadata = pod["metadata"]
        ready = {"type": "Ready", "status": "True" if phase == "Running" else "False"}
        others = [c for c in pod["status"].get("conditions", ()) if c["type"] != "Ready"]
        status: dict[str, Any] = {"phase": phase, "conditions": [*others, ready]}
        if reason or message:
            status |= {"reason": reason, "message": message}
        await self._api.patch(
            PODS,
            metadata["name"],
            {"metadata": {"uid": metadata["uid"]}, "status": status},
            patch_type=PatchType.MERGE,
            namespace=metadata["namespace"],
            subresource="status",
        )
