"""From a node as decisions see it to the node as people do."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

from extender.claims import is_claim, vacated
from extender.metrics.capacity import capacity
from extender.overview.documents import Fit, Geometry, Gpu, GpuState, Instance, Node, Occupied
from extender.overview.documents import Profile as ProfileTold
from extender.packing.choose import Bin
from extender.packing.states import shape
from extender.policy.bounds import UNKNOWN
from extender.snapshot import NodeView, Taken, taken_by
from extender.verbs.verdicts import unsuitable
from nodeagent.api import geometry as mig
from nodeagent.api import gpunode
from nodeagent.api.gpunode import Assignment, Layout

_GONE = "vGPU: the GPU's profiles cannot be read"


def drawn(view: NodeView, tenant_of: Callable[[str], str]) -> Node:
    """Draw a node; *tenant_of* names whose a namespace is, "" where the policy says nothing."""
    why_not = unsuitable(view, ())
    bins = dict(zip((gpu.uuid for gpu in view.usable), view.bins(), strict=True))
    there: dict[str, list[Instance]] = {}
    for gpu, each in _instances(view, tenant_of):
        there.setdefault(gpu, []).append(each)
    left = sorted(capacity(view).left.items())
    return Node(
        name=view.name,
        state="ready" if why_not is None else why_not.code.value,
        why="" if why_not is None else why_not.reason,
        mode=view.node.status.mode.value if view.reported else "",
        simulated=view.node.status.simulated,
        gpus=tuple(
            _gpu(view, gpu, there.get(gpu.uuid, []), bins.get(gpu.uuid))
            for gpu in view.node.status.gpus
        ),
        fits=tuple(Fit(model, profile, count) for (model, profile), count in left if count),
    )


@functools.lru_cache(maxsize=256)
def geometry(of: mig.Geometry) -> Geometry:
    """Tell a geometry."""
    return Geometry(
        of.memory_slices,
        of.compute_slices,
        tuple(ProfileTold(p.name, p.size, p.compute_slices, p.starts) for p in of.profiles),
    )


def _gpu(view: NodeView, gpu: gpunode.Gpu, there: list[Instance], bin: Bin | None) -> Gpu:
    found = view.node.status.geometries.get(gpu.geometry)
    slices = 0 if found is None else found.memory_slices
    state, why = _state(gpu, usable=bin is not None)
    if found is not None and bin is not None:
        mask = bin.occupancy.mask
        reachable = _reachable(found, mask, bin.occupancy.counts)
    else:
        mask, reachable = _mask(there), 0
    free = [at for at in range(slices) if not mask >> at & 1]
    return Gpu(
        uuid=gpu.uuid,
        model=gpu.model,
        geometry=gpu.geometry,
        slices=slices,
        state=state,
        why=why,
        pci=gpu.pci_address,
        numa=gpu.numa_node,
        instances=tuple(sorted(there, key=lambda each: each.start)),
        free=tuple(at for at in free if reachable >> at & 1),
        unusable=tuple(at for at in free if not reachable >> at & 1),
    )


def _state(gpu: gpunode.Gpu, *, usable: bool) -> tuple[GpuState, str]:
    if gpu.layout is Layout.UNMANAGED:
        return GpuState.UNMANAGED, "vGPU: the GPU is not Tangram's to use"
    if gpu.unhealthy:
        return GpuState.UNHEALTHY, gpu.unhealthy
    if not gpu.mig_enabled:
        return GpuState.MIG_DISABLED, "vGPU: MIG mode is off"
    if gpu.layout is Layout.STATIC:
        return GpuState.STATIC, "vGPU: its layout is static: what stands there is handed out"
    return (GpuState.USABLE, "") if usable else (GpuState.UNREADABLE, _GONE)


def _mask(there: list[Instance]) -> int:
    return functools.reduce(int.__or__, (((1 << i.size) - 1) << i.start for i in there), 0)


@functools.lru_cache(maxsize=4096)
def _reachable(geometry: mig.Geometry, mask: int, counts: tuple[int, ...]) -> int:
    """Return the slices, as bits, that some legal placement beside *mask* covers."""
    had = dict(zip(geometry.limited, counts, strict=True))
    covered = 0
    for profile in geometry.profiles:
        if had.get(profile.id, 0) < profile.max_instances:
            covered = functools.reduce(int.__or__, shape(profile).free(mask), covered)
    return covered


def _instances(view: NodeView, tenant_of: Callable[[str], str]) -> Iterator[tuple[str, Instance]]:
    """Yield, with its GPU, what is on the GPUs, what is promised, and what is being taken back."""
    status = view.node.status
    # A claim lies over the places of pods that are leaving: it is drawn once it is alone there.
    planned = {
        taken_by(each): each
        for each in view.in_force
        if not is_claim(each) or vacated(view, (each,))
    }
    releasing = {
        each.taken: "" if each.namespace == UNKNOWN else each.namespace for each in view.releasing
    }
    realized = {each.id for each in status.realized}
    failed = {each.id for each in status.failed}

    def told(taken: Taken, state: Occupied, namespace: str = "", **whose: str) -> Instance:
        return Instance(
            view.profile_named(taken.gpu, taken.profile_id) or f"profile {taken.profile_id}",
            taken.placement.start,
            taken.placement.size,
            state,
            namespace,
            tenant=tenant_of(namespace) if namespace else "",
            **whose,
        )

    def of_plan(taken: Taken, entry: Assignment) -> Instance:
        if entry.id in failed:
            state = Occupied.FAILED
        elif entry.pod is None:
            state = Occupied.RESERVED
        else:
            state = Occupied.RUNNING if entry.id in realized else Occupied.STARTING
        about = entry.pod or entry.owner
        pod = entry.pod.name if entry.pod else ""
        vm = entry.owner.name if entry.owner else pod
        return told(taken, state, about.namespace if about else "", vm=vm, pod=pod)

    for gpu in status.gpus:
        for there in gpu.instances:
            taken = Taken(gpu.uuid, there.profile_id, there.placement)
            entry, was = planned.pop(taken, None), releasing.pop(taken, None)
            if entry is not None:
                yield gpu.uuid, of_plan(taken, entry)
            elif there.holder is not None:
                pod = there.holder
                yield (
                    gpu.uuid,
                    told(taken, Occupied.RUNNING, pod.namespace, vm=pod.name, pod=pod.name),
                )
            elif there.standing:
                yield gpu.uuid, told(taken, Occupied.STANDING)
            elif was is not None or there.assignment:
                yield gpu.uuid, told(taken, Occupied.RELEASING, was or "")
            else:
                yield gpu.uuid, told(taken, Occupied.FOREIGN)
    for taken, entry in planned.items():
        yield taken.gpu, of_plan(taken, entry)
    for taken, namespace in releasing.items():
        if taken not in planned:
            yield taken.gpu, told(taken, Occupied.RELEASING, namespace)
