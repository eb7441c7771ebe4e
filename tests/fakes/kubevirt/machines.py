"""KubeVirt's virt-controller: VirtualMachines run as VirtualMachineInstances, those in pods."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from nodeagent.apiserver.protocol import (
    PODS,
    ApiServer,
    Conflict,
    Invalid,
    Kind,
    NotFound,
    PatchType,
    Unavailable,
)
from nodeagent.apiserver.reflector import reflect
from tests.fakes.kubevirt.launcher import DOMAIN, LAUNCHER, forbidden, instance, launcher
from tests.fakes.pcidevices.names import KUBEVIRT, KUBEVIRT_NAMESPACE, KUBEVIRTS, VMIS, VMS

Value = dict[str, Any]
Key = tuple[str, str]

RETRY_SECONDS = 0.2
"""How soon it tries again where it had no usable answer; the real one waits longer and longer."""
_MOST_ROUNDS = 1000
_PHASES = {"Pending": "Scheduling", "Running": "Running", "Succeeded": "Succeeded"}


class KubeVirt:
    """The controller, a client of *api*; ``work`` does all that follows from what has changed.

    Its configuration is in *namespace*.
    """

    def __init__(self, api: ApiServer, *, namespace: str = KUBEVIRT_NAMESPACE) -> None:
        self._api = api
        self._namespace = namespace

    async def work(self) -> None:
        """Bring every VirtualMachine as far as it gets."""
        for _ in range(_MOST_ROUNDS):
            if not await self._round():
                return
        raise RuntimeError("KubeVirt never comes to rest")

    async def run(self) -> None:
        """Work whenever something changes, until cancelled."""
        changed = asyncio.Event()

        async def follow(kind: Kind, label_selector: str = "") -> None:
            changes = reflect(self._api, kind, label_selector=label_selector)
            async with contextlib.aclosing(changes):
                async for _ in changes:
                    changed.set()

        async with asyncio.TaskGroup() as tasks:
            for kind, labels in ((VMS, ""), (VMIS, ""), (PODS, LAUNCHER), (KUBEVIRTS, "")):
                tasks.create_task(follow(kind, labels), name=f"kubevirt-{kind.plural}")
            while True:
                await changed.wait()
                changed.clear()
                try:
                    await self.work()
                except (Conflict, Invalid, NotFound):
                    pass  # what lost against another write comes again with that one's event
                except Unavailable:  # the API server's webhooks, for example
                    await asyncio.sleep(RETRY_SECONDS)
                    changed.set()

    async def _round(self) -> bool:
        vms = {_key(vm): vm async for vm in self._listed(VMS)}
        vmis = {_key(vmi): vmi async for vmi in self._listed(VMIS)}
        pods: dict[Key, list[Value]] = {}
        async for pod in self._listed(PODS, LAUNCHER):
            domain = (pod["metadata"].get("annotations") or {}).get(DOMAIN, "")
            pods.setdefault((pod["metadata"]["namespace"], domain), []).append(pod)
        did = False
        for key in vms.keys() | vmis.keys():
            did |= await self._settled(key, vms.get(key), vmis.get(key), pods.get(key, []))
        return did

    async def _settled(
        self, key: Key, vm: Value | None, vmi: Value | None, pods: list[Value]
    ) -> bool:
        """Take the next step for one VM; tell whether there was one."""
        namespace, _ = key
        wanted = vm is not None and vm["spec"].get("runStrategy", "Always") != "Halted"
        if vmi is None:
            if not wanted or vm is None:
                return False
            await self._api.create(VMIS, instance(vm), namespace=namespace)
            return True
        phase = (vmi.get("status") or {}).get("phase", "")
        mine = [pod for pod in pods if _of(pod, vmi)]
        if not wanted or phase in ("Failed", "Succeeded"):
            for pod in mine:
                if "deletionTimestamp" not in pod["metadata"]:
                    await self._delete(PODS, pod)
                    return True
            if mine:
                return False
            await self._delete(VMIS, vmi)
            return True
        if not mine:
            if phase:  # it had one
                return await self._tell(vmi, "Failed", "")
            kubevirt = await self._kubevirt()
            if kubevirt is None or forbidden(vmi, kubevirt):
                return False
            await self._api.create(PODS, launcher(vmi), namespace=namespace)
            return await self._tell(vmi, "Scheduling", "")
        (pod,) = mine[:1]
        node = pod["spec"].get("nodeName", "")
        phase = _PHASES.get(pod["status"].get("phase", "Pending"), "Failed")
        if phase == "Scheduling" and node:
            phase = "Scheduled"
        return await self._tell(vmi, phase, node)

    async def _tell(self, vmi: Value, phase: str, node: str) -> bool:
        status = {"phase": phase} | ({"nodeName": node} if node else {})
        if (vmi.get("status") or {}) == status:
            return False
        metadata = vmi["metadata"]
        await self._api.patch(
            VMIS,
            metadata["name"],
            {"metadata": {"uid": metadata["uid"]}, "status": status},
            patch_type=PatchType.MERGE,
            namespace=metadata["namespace"],
            subresource="status",
        )
        return True

    async def _delete(self, kind: Kind, value: Value) -> None:
        metadata = value["metadata"]
        with contextlib.suppress(NotFound, Conflict):
            await self._api.delete(
                kind, metadata["name"], namespace=metadata["namespace"], uid=metadata["uid"]
            )

    async def _kubevirt(self) -> Value | None:
        try:
            raw = await self._api.get(KUBEVIRTS, KUBEVIRT, namespace=self._namespace)
        except NotFound:
            return None
        return dict(msgspec.json.decode(raw))

    async def _listed(self, kind: Kind, label_selector: str = "") -> AsyncIterator[Value]:
        token = ""
        while True:
            page = await self._api.list(kind, label_selector=label_selector, continue_token=token)
            for raw in page.items:
                yield msgspec.json.decode(raw)
            token = page.continue_token
            if not token:
                return


def _key(value: Value) -> Key:
    return value["metadata"]["namespace"], value["metadata"]["name"]


def _of(pod: Value, vmi: Value) -> bool:
    owners = pod["metadata"].get("ownerReferences") or ()
    return any(each.get("uid") == vmi["metadata"]["uid"] for each in owners)
