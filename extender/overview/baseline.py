"""From nodes as decisions see them to the baseline of a what-if."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from extender.simulation.baseline import Baseline, Gpu, Held, Kin, Node, Requests
from extender.snapshot import NodeView, Taken, taken_by
from extender.verbs.verdicts import unsuitable
from nodeagent.api.gpunode import Mode

_Kind = tuple[str, str, tuple[int, ...], Mode]


def baseline(views: Iterable[NodeView], requests: Requests, *, policy: str, at: str) -> Baseline:
    """Return the fleet as it stands; *at* is when, in RFC 3339 UTC."""
    kin: dict[_Kind, Kin] = {}
    order: dict[_Kind, int] = {}
    nodes = tuple(_node(view, kin, order) for view in sorted(views, key=lambda view: view.name))
    return Baseline(at, policy, tuple(kin.values()), nodes, requests)


def _node(view: NodeView, kin: dict[_Kind, Kin], order: dict[_Kind, int]) -> Node:
    status, why_not = view.node.status, unsuitable(view, ())
    ours = _ours(view)
    there: dict[str, list[Held]] = {}
    for each in sorted(view.taken, key=lambda each: each.placement):
        held = Held(each.profile_id, each.placement.start, fixed=each not in ours)
        there.setdefault(each.gpu, []).append(held)
    gpus = []
    for gpu, bin in zip(view.usable, view.bins(), strict=True):
        serves = tuple(sorted(set(bin.serves.values())))
        key = (gpu.model, gpu.geometry, serves, status.mode)
        if key not in kin:
            order[key] = len(kin)
            kin[key] = Kin(gpu.model, status.geometries[gpu.geometry], serves, status.mode)
        gpus.append(Gpu(order[key], tuple(there.get(gpu.uuid, ()))))
    return Node(
        view.name,
        "" if why_not is None else why_not.reason.removeprefix("vGPU: "),
        tuple(gpus),
        _elsewhere(view),
    )


def _ours(view: NodeView) -> frozenset[Taken]:
    """Return what Tangram has planned, or made and not cleared away yet."""
    made = (
        Taken(gpu.uuid, each.profile_id, each.placement)
        for gpu in view.node.status.gpus
        for each in gpu.instances
        if each.assignment
    )
    left = (each.taken for each in view.releasing)
    return frozenset((*map(taken_by, view.in_force), *made, *left))


def _elsewhere(view: NodeView) -> Mapping[str, int]:
    usable = {gpu.uuid for gpu in view.usable}
    entries = (each for each in view.in_force if each.gpu not in usable)
    found = Counter(view.profile_named(each.gpu, each.profile_id) for each in entries)
    del found[""]  # of a GPU that is gone: nobody knows any more what it was
    return dict(found)
