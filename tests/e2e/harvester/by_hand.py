"""What an administrator does without Tangram, and what becomes of a GPU that is handed back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from nodeagent.apiserver.protocol import NODES, PODS, Kind, NotFound, PatchType
from tests.e2e.harvester.cluster import RESOURCES, TYPES, Cluster
from tests.fakes.kubevirt import virtual_machine
from tests.fakes.pcidevices.names import (
    MIG_CONFIGURATIONS,
    SRIOV_GPUS,
    VGPUS,
    VMS,
    device_name,
)
from tests.waiting import until

WITHIN = 120.0


async def by_hand(
    cluster: Cluster, node: str, address: str, counts: Mapping[int, int]
) -> list[str]:
    """Cut a GPU as Harvester's documentation says, and enable a vGPU for each GPU instance.

    *counts* are GPU instances by profile. Returns the names of the VGPUDevices.
    """
    gpu = device_name(node, address)
    await _there(cluster, SRIOV_GPUS, gpu)
    await _change(cluster, SRIOV_GPUS, gpu, enabled=True)
    await _there(cluster, MIG_CONFIGURATIONS, gpu, told=True)
    mig = await _get(cluster, MIG_CONFIGURATIONS, gpu)
    profiles = [
        each | {"requested": counts.get(each["id"], 0)} for each in mig["spec"]["profileSpec"]
    ]
    await _change(cluster, MIG_CONFIGURATIONS, gpu, profileSpec=profiles, enabled=True)
    made = []
    for profile, count in counts.items():
        for _ in range(count):
            name = await _offering(cluster, node, address, TYPES[profile])
            await _change(cluster, VGPUS, name, enabled=True, vGPUTypeName=TYPES[profile])
            await _configured(cluster, name)
            made.append(name)
    return made


async def hand_made_vm(cluster: Cluster, name: str, profile: int) -> str:
    """Run a VM on a node that has no agent, and return its launcher's UID."""
    resource = RESOURCES[profile]
    await cluster.api.create(VMS, virtual_machine(name, resource), namespace="default")

    async def rendered() -> bool:
        return name in await cluster.launchers()

    await until(rendered, within=WITHIN, every=0.1)

    async def advertised() -> bool:
        status = (await _get(cluster, NODES, "node-1"))["status"]
        return int(status.get("allocatable", {}).get(resource, "0")) > 0

    await until(advertised, within=WITHIN, every=0.1)
    metadata = (await cluster.launchers())[name]["metadata"]
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": metadata["name"]},
        "target": {"kind": "Node", "name": "node-1"},
    }
    await cluster.api.create(
        PODS, binding, namespace="default", name=metadata["name"], subresource="binding"
    )
    await cluster.all_run(name)
    return str(metadata["uid"])


async def handed_back(cluster: Cluster, node: str, address: str) -> None:
    """Wait until a GPU is Harvester's again: its layout disabled, nothing on it."""
    name = device_name(node, address)

    async def disabled() -> bool:
        return not (await _get(cluster, MIG_CONFIGURATIONS, name))["spec"]["enabled"]

    await until(disabled, within=WITHIN, every=0.2)


async def _offering(cluster: Cluster, node: str, address: str, kind: str) -> str:
    """Wait until a VGPUDevice of the GPU offers a type, and return its name."""
    found = ""

    async def offered() -> bool:
        nonlocal found
        for each in await cluster.listed(VGPUS):
            spec, status = each["spec"], each.get("status") or {}
            if (
                spec["nodeName"] == node
                and spec["parentGPUDeviceAddress"] == address
                and not spec["enabled"]
                and kind in (status.get("availableTypes") or {})
            ):
                found = each["metadata"]["name"]
                return True
        return False

    await until(offered, within=WITHIN, every=0.1)
    return found


async def _configured(cluster: Cluster, name: str) -> None:
    async def configured() -> bool:
        status = (await _get(cluster, VGPUS, name)).get("status") or {}
        return bool(status.get("configureVGPUTypeName"))

    await until(configured, within=WITHIN, every=0.1)


async def _there(cluster: Cluster, kind: Kind, name: str, *, told: bool = False) -> None:
    """Wait until there is such an object, and, if that is wanted, it is *told* what it is."""

    async def there() -> bool:
        try:
            found = await _get(cluster, kind, name)
        except NotFound:
            return False
        return not told or bool(found.get("status"))

    await until(there, within=WITHIN, every=0.1)


async def _get(cluster: Cluster, kind: Kind, name: str) -> dict[str, Any]:
    return dict(msgspec.json.decode(await cluster.api.get(kind, name)))


async def _change(cluster: Cluster, kind: Kind, name: str, **spec: Any) -> None:
    await cluster.api.patch(kind, name, {"spec": spec}, patch_type=PatchType.MERGE)
