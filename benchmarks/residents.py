"""A populated site (``benchmarks.populated``) as the objects of an API server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from benchmarks import launchers
from benchmarks.populated import MODEL, NAMESPACE, Site, Vm, instances_of, realized
from extender.demo.pods import launcher
from nodeagent.api import keys
from nodeagent.api.gpunode import Assignment, Decision, Gpu, GpuNode, Inventory, Plan, PodRef
from nodeagent.apiserver.protocol import (
    GPU_NODES,
    LEASES,
    NAMESPACES,
    NODES,
    PODS,
    ApiServer,
    Conflict,
    PatchType,
)

AT_ONCE = 32  # requests, where there is a real API server


async def create(
    api: ApiServer,
    site: Site,
    *,
    offers: Mapping[str, str] | None = None,
    long: bool = False,
) -> None:
    """Make all of it there; the plans then name the pods by the UIDs they were given.

    *offers* are what each Node has to allocate, where there is a kube-scheduler to look at it.
    Pods are *long* as KubeVirt's are, of 20 kB, of which Tangram looks at little.
    """
    gate = asyncio.Semaphore(AT_ONCE)

    async def placed(node: GpuNode) -> None:
        async with gate:
            vms = [site.vms[a.id] for a in node.spec.assignments]
            pods = [None if vm.off else await _create_pod(api, vm, long) for vm in vms]
            entries = zip(node.spec.assignments, pods, strict=True)
            plan = Plan(tuple(msgspec.structs.replace(a, pod=pod) for a, pod in entries))
            site.nodes[node.name] = msgspec.structs.replace(node, spec=plan)
            await _create_node(api, site, site.nodes[node.name], offers or {})

    async def waits(vm: Vm) -> None:
        async with gate:
            await _create_pod(api, vm, long)

    pending = [vm for vm in site.vms.values() if vm.entry is None]
    await asyncio.gather(*map(placed, tuple(site.nodes.values())), *map(waits, pending))


async def _create_pod(api: ApiServer, vm: Vm, long: bool) -> PodRef:
    body = pod(vm)
    if long:
        lengthened(body)
    made = await api.create(PODS, body, namespace=NAMESPACE)
    uid = msgspec.json.decode(made, type=_Made).metadata.uid
    return PodRef(NAMESPACE, vm.name, uid)


class _MadeMetadata(msgspec.Struct):
    uid: str


class _Made(msgspec.Struct):
    metadata: _MadeMetadata


async def _create_node(
    api: ApiServer, site: Site, node: GpuNode, offers: Mapping[str, str]
) -> None:
    made = {
        "metadata": {
            "name": node.name,
            "labels": {"kubevirt.io/schedulable": "true", **site.labels.get(node.name, {})},
        },
        "spec": {"unschedulable": True} if node.name in site.cordoned else {},
        "status": {"allocatable": offers, "capacity": offers},
    }
    await api.create(NODES, made)
    if node.name not in site.leaseless:
        labels = {keys.AGENT_LABEL: "true"}
        lease = {
            "metadata": {"name": keys.lease_name(node.name), "labels": labels},
            "spec": {"holderIdentity": node.status.agent_epoch, "leaseDurationSeconds": 40},
        }
        await api.create(LEASES, lease, namespace=keys.SYSTEM_NAMESPACE)
    head = {"apiVersion": keys.API_VERSION, "kind": keys.GPU_NODE_KIND}
    plan = msgspec.to_builtins(node.spec)
    await api.create(GPU_NODES, {**head, "metadata": {"name": node.name}, "spec": plan})
    await report(api, node.name, node.status)


async def label_namespace(api: ApiServer, labels: Mapping[str, str]) -> None:
    """Give the VMs' namespace these labels; the twin has none before it is created."""
    made = {"metadata": {"name": NAMESPACE, "labels": dict(labels)}}
    try:
        await api.create(NAMESPACES, made)
    except Conflict:
        await api.patch(NAMESPACES, NAMESPACE, made, patch_type=PatchType.MERGE)


async def report(api: ApiServer, name: str, status: Inventory) -> None:
    """Write an inventory, as the agent does."""
    await api.patch(
        GPU_NODES,
        name,
        [{"op": "add", "path": "/status", "value": msgspec.to_builtins(status)}],
        patch_type=PatchType.JSON,
        subresource="status",
    )


def obeyed(node: GpuNode) -> Inventory:
    """Return the report of an agent that has made what is planned and taken away what is not."""

    def made(gpu: Gpu) -> Gpu:
        foreign = [each for each in gpu.instances if not each.assignment]
        ours = instances_of(node.spec.assignments, gpu.uuid)
        return msgspec.structs.replace(gpu, instances=(*ours, *foreign))

    return msgspec.structs.replace(
        node.status,
        sequence=node.status.sequence + 1,
        gpus=tuple(map(made, node.status.gpus)),
        realized=realized(node.spec.assignments),
        observed_generation=node.metadata.generation,
    )


def pod(vm: Vm) -> dict[str, Any]:
    """Return a launcher pod; the one of a placed VM has its decision, as its Binding gave it."""
    resource = vm.entry.resource if vm.entry else vm.wanted
    made = launcher(vm.name, NAMESPACE, resource)
    meta, spec = made["metadata"], made["spec"]
    del meta["generateName"]
    meta["name"] = vm.name
    if vm.node and vm.entry:
        spec["nodeName"] = vm.node
        meta["annotations"][keys.DECISION_ANNOTATION] = decision(vm.entry)
    if vm.gang:
        meta["annotations"] |= {keys.GANG: vm.gang, keys.GANG_SIZE: "2"}
    container = spec["containers"][0]
    container["command"] = ["/usr/bin/virt-launcher-monitor", "--name", vm.name]
    container["env"] = [{"name": f"VIRT_SETTING_{n}", "value": "x" * 40} for n in range(12)]
    names = [f"disk-{n}" for n in range(10)]
    container["volumeMounts"] = [{"name": n, "mountPath": f"/var/run/kubevirt/{n}"} for n in names]
    spec["volumes"] = [{"name": n, "emptyDir": {}} for n in names]
    spec["tolerations"] = [
        {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute"}
        for key in ("not-ready", "unreachable")
    ]
    return made


def lengthened(body: dict[str, Any]) -> None:
    """Give a launcher all that KubeVirt's have besides (``benchmarks.launchers``)."""
    (container,) = body["spec"]["containers"]
    (resource,) = container["resources"]["limits"]
    full = launchers.pod(body["metadata"]["name"], resource)
    for part in ("annotations", "labels"):
        body["metadata"][part] = full["metadata"][part] | body["metadata"][part]
    body["spec"] = {**body["spec"], **full["spec"]}


def decision(entry: Assignment) -> str:
    """Return what the Binding of an assignment's pod said."""
    profile = MODEL.geometry.by_id[entry.profile_id].name
    said = Decision(
        id=entry.id,
        gpu=entry.gpu,
        profile=profile,
        profile_id=entry.profile_id,
        start=entry.start,
        size=entry.size,
        resource=entry.resource,
    )
    return msgspec.json.encode([said]).decode()
