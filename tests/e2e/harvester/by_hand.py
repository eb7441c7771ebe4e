"""What an administrator does without Tangram, and what becomes of a GPU that is handed back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from nodeagent.apiserver.protocol import Kind, NotFound, PatchType
from tests.e2e.harvester.cluster import TYPES, Cluster
from tests.fakes.pcidevices.names import (
    MIG_CONFIGURATIONS,
    OUT_OF_SYNC,
    SRIOV_GPUS,
    VGPUS,
    device_name,
)
from tests.waiting import until

WITHIN = 120.0


async def enable_functions(cluster: Cluster, node: str, address: str) -> None:
    """Have a GPU's virtual functions and MIG mode enabled, and wait until Harvester has told so."""
    gpu = device_name(node, address)
    await _there(cluster, SRIOV_GPUS, gpu)
    await _change(cluster, SRIOV_GPUS, gpu, enabled=True)
    await _there(cluster, MIG_CONFIGURATIONS, gpu, told=True)


async def cut(cluster: Cluster, node: str, address: str, counts: Mapping[int, int]) -> None:
    """Cut a GPU as Harvester's documentation says; *counts* are GPU instances by profile."""
    gpu = device_name(node, address)
    with cluster.administered.shift(cluster.nodes[node].host, address):
        await enable_functions(cluster, node, address)
        mig = await _get(cluster, MIG_CONFIGURATIONS, gpu)
        profiles = [
            each | {"requested": counts.get(each["id"], 0)} for each in mig["spec"]["profileSpec"]
        ]
        await _change(cluster, MIG_CONFIGURATIONS, gpu, profileSpec=profiles, enabled=True)
        host = cluster.nodes[node].host
        wanted = sum(counts.values())

        async def made() -> bool:
            return len(host.machine.gpu_instances(host.gpus[address])) == wanted

        await until(made, within=WITHIN, every=0.05)


async def enable(cluster: Cluster, node: str, address: str, profile: int) -> str:
    """Enable a vGPU on a GPU that is cut; return its VGPUDevice's name."""
    with cluster.administered.shift(cluster.nodes[node].host, address):
        name = await _offering(cluster, node, address, TYPES[profile])
        await _change(cluster, VGPUS, name, enabled=True, vGPUTypeName=TYPES[profile])
        await _configured(cluster, name)
    return name


async def by_hand(cluster: Cluster, node: str, address: str, counts: Mapping[int, int]) -> None:
    """Cut a GPU, and enable a vGPU for each GPU instance."""
    await cut(cluster, node, address, counts)
    for profile, count in counts.items():
        for _ in range(count):
            await enable(cluster, node, address, profile)


async def given_up(cluster: Cluster, node: str, address: str) -> None:
    """Disable what is enabled on a GPU, as an administrator who wants it anew."""
    host = cluster.nodes[node].host
    with cluster.administered.shift(host, address):
        for each in await cluster.listed(VGPUS):
            spec = each["spec"]
            here = (spec["nodeName"], spec["parentGPUDeviceAddress"]) == (node, address)
            if here and spec["enabled"]:
                await _change(cluster, VGPUS, each["metadata"]["name"], enabled=False)

        async def without_vgpus() -> bool:
            return not any(vgpu.gpu == host.gpus[address] for vgpu in host.kernel.vgpus())

        await until(without_vgpus, within=WITHIN, every=0.1)
        await _change(cluster, MIG_CONFIGURATIONS, device_name(node, address), enabled=False)

        async def empty() -> bool:
            return not host.machine.gpu_instances(host.gpus[address])

        await until(empty, within=WITHIN, every=0.1)


async def hand_made_vm(cluster: Cluster, name: str, profile: int) -> str:
    """Run a VM by the cluster's own scheduler, and return its launcher's UID."""
    cluster.administered.vms.add(name)
    await cluster.create(name, profile)
    await cluster.all_run(name)
    return str((await cluster.launchers())[name]["metadata"]["uid"])


async def handed_back(cluster: Cluster, node: str, address: str) -> None:
    """Wait until a GPU is Harvester's again: its layout disabled, nothing on it."""
    name = device_name(node, address)

    async def disabled() -> bool:
        return not (await _get(cluster, MIG_CONFIGURATIONS, name))["spec"]["enabled"]

    await until(disabled, within=WITHIN, every=0.2)


async def out_of_sync(cluster: Cluster, node: str, address: str) -> None:
    """Wait until Harvester says that a GPU holds other GPU instances than it has made."""
    name = device_name(node, address)

    async def said() -> bool:
        status: str = (await _get(cluster, MIG_CONFIGURATIONS, name))["status"]["status"]
        return status == OUT_OF_SYNC

    await until(said, within=WITHIN, every=0.2)


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
