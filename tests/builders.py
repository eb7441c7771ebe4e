"""Values for tests: each builder shows only what the test is about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from extender.packing.spread import Spread
from extender.policy import PolicyName
from extender.request import Request
from extender.snapshot import NodeView
from nodeagent.api import keys
from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Geometry, Occupancy
from nodeagent.api.gpunode import (
    Assignment,
    Failed,
    Gpu,
    GpuNode,
    Instance,
    Inventory,
    Metadata,
    Mode,
    OwnerRef,
    Plan,
    PodRef,
    Realized,
    VgpuType,
)
from nodeagent.api.rivals import Rival

H100 = MODELS["H100-80GB"]
VGPU = "nvidia.com/NVIDIA_H100XM-"
"""Resources of an H100 SXM's vGPU types: ``VGPU + "1-10C"``."""
_API_VERSIONS = {"VirtualMachineInstance": "kubevirt.io/v1", "ReplicaSet": "apps/v1"}


def gpu(index: int = 0, *, model: str = "H100-80GB", **fields: Any) -> Gpu:
    geometry = MODELS[model].geometry
    return Gpu(
        **{
            "uuid": f"GPU-{index}",
            "pci_address": f"0000:0{index}:00.0",
            "model": model,
            "geometry": geometry.hash,
            "vgpu_types": "types",
            **fields,
        }
    )


def instance(
    profile_id: int, start: int, *, model: str = "H100-80GB", gi_id: int = 1, **fields: Any
) -> Instance:
    size = MODELS[model].geometry.by_id[profile_id].size
    return Instance(gi_id=gi_id, profile_id=profile_id, start=start, size=size, **fields)


def assignment(
    id: str,
    profile_id: int,
    start: int,
    *,
    gpu: str = "GPU-0",
    pod: str | None = "pod-1",
    resource: str = VGPU + "1-10C",
    owner: OwnerRef | None = None,
) -> Assignment:
    return Assignment(
        id=id,
        gpu=gpu,
        profile_id=profile_id,
        start=start,
        size=H100.geometry.by_id[profile_id].size,
        resource=resource,
        since="2026-01-01T00:00:00Z",
        pod=None if pod is None else PodRef("default", f"name-{pod}", pod),
        owner=owner,
    )


def gpu_node(
    name: str = "node-1",
    *,
    model: str = "H100-80GB",
    gpus: int | Iterable[Gpu] = 1,
    plan: Iterable[Assignment] = (),
    generation: int = 1,
    version: int = 1,
    observed: int | None = None,
    realized: Iterable[Realized] = (),
    failed: Iterable[Failed] = (),
    mode: Mode = Mode.VGPU_VFIO,
    uid: str = "uid-1",
    reported: bool = True,
    vgpu_types: Iterable[VgpuType] | None = None,
    resources: Iterable[str] = (),
    rivals: Iterable[str] = (),
) -> GpuNode:
    known = MODELS[model]
    listed = tuple(gpu(i, model=model) for i in range(gpus)) if isinstance(gpus, int) else gpus
    status = Inventory(
        boot_id="boot",
        agent_epoch="epoch",
        observed_generation=generation if observed is None else observed,
        mode=mode,
        geometries={known.geometry.hash: known.geometry},
        vgpu_types={"types": known.vgpu_types if vgpu_types is None else tuple(vgpu_types)},
        gpus=tuple(listed),
        resources=tuple(resources),
        rivals=tuple(rivals),
        realized=tuple(realized),
        failed=tuple(failed),
    )
    return GpuNode(
        metadata=Metadata(name, uid, generation, str(version)),
        spec=Plan(tuple(plan)),
        status=status if reported else Inventory(),
    )


def view(
    node: GpuNode | None = None,
    *,
    policy: PolicyName = PolicyName.DEFAULT,
    stale: bool = False,
    cordoned: bool = False,
    failing: bool = False,
    rival: Rival | None = None,
    unanswered: int = 0,
    lapsed: Iterable[str] = (),
    **fields: Any,
) -> NodeView:
    return NodeView(
        node or gpu_node(**fields),
        policy,
        stale=stale,
        cordoned=cordoned,
        failing=failing,
        rival=rival,
        unanswered=unanswered,
        lapsed=frozenset(lapsed),
    )


def request(
    *wanted: str,
    pod: str = "pod-1",
    owner: OwnerRef | None = None,
    spread: Spread = Spread.ANY,
) -> Request:
    names = tuple(sorted(VGPU + each if "/" not in each else each for each in wanted))
    return Request(PodRef("default", f"name-{pod}", pod), names, owner, spread=spread)


def raw_pod(
    *wanted: str,
    name: str = "vm-1",
    uid: str = "pod-1",
    namespace: str = "default",
    resources: Mapping[str, str] | None = None,
    owner: tuple[str, str] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """A launcher-shaped pod as JSON; *wanted* are vGPU types such as "1-10C".

    *owner* is the kind and name of its controller.
    """
    amounts = dict(resources or {})
    for each in wanted:
        amounts[VGPU + each] = str(wanted.count(each))
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid,
            "labels": {"kubevirt.io": "virt-launcher", keys.MANAGED_LABEL: "true"},
            **({} if owner is None else {"ownerReferences": [_controller(*owner)]}),
        },
        "spec": {
            "containers": [
                {"name": "compute", "resources": {"requests": amounts, "limits": amounts}}
            ],
            **spec,
        },
        "status": {"phase": "Pending"},
    }


def _controller(kind: str, name: str) -> dict[str, Any]:
    return {
        "apiVersion": _API_VERSIONS[kind],
        "kind": kind,
        "name": name,
        "uid": f"uid-{name}",
        "controller": True,
    }


def as_json(value: object) -> bytes:
    return msgspec.json.encode(value)


def reachable(geometry: Geometry) -> set[Occupancy]:
    """Every occupancy a GPU can come to, whatever comes and goes."""
    seen, frontier = {geometry.empty}, [geometry.empty]
    while frontier:
        now = frontier.pop()
        for profile in geometry.profiles:
            for placement in geometry.legal(now, profile):
                then = geometry.occupied(now, profile.id, placement)
                if then not in seen:
                    seen.add(then)
                    frontier.append(then)
    return seen
