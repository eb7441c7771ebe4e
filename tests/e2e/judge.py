"""Whether a cluster is as it must be: judged from the API server's objects, by nobody's ledger."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from nodeagent.api import keys
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Decision, GpuNode

Place = tuple[str, int, int]
"""A GPU instance by GPU (UUID), profile id and first memory slice."""


def violations(
    nodes: Iterable[GpuNode],
    pods: Mapping[str, dict[str, Any]],
    foreign: Collection[Place] = (),
) -> Iterator[str]:
    """Yield what is wrong with plans, inventories and decisions; nothing if all is well.

    The GPU instances that are *foreign* must exist, and are in no plan. Entries without a pod are
    places held for one: nothing is there yet, and nobody else has them.
    """
    planned: dict[str, tuple[str, str, int]] = {}
    for node in nodes:
        entries = {(a.gpu, a.profile_id, a.start) for a in node.spec.assignments if a.pod}
        existing = {(g.uuid, i.profile_id, i.start) for g in node.status.gpus for i in g.instances}
        here = {place for place in foreign if any(place[0] == g.uuid for g in node.status.gpus)}
        if here - existing:
            yield f"{node.name}: foreign GPU instances are gone: {here - existing}"
        existing -= here
        if entries != existing:
            yield f"{node.name}: plan and inventory differ by {entries ^ existing}"
        for gpu in node.status.gpus:
            if _overlap(instance.placement for instance in gpu.instances):
                yield f"{node.name}: {gpu.uuid} has overlapping instances"
            if _overlap(a.placement for a in node.spec.assignments if a.gpu == gpu.uuid):
                yield f"{node.name}: the plan promises slices of {gpu.uuid} twice"
        for entry in node.spec.assignments:
            if entry.pod is not None:
                planned[entry.id] = (entry.pod.uid, node.name, entry.start)
    yield from _undecided(planned, pods)


def _overlap(placements: Iterable[Placement]) -> bool:
    taken = 0
    for placement in placements:
        if taken & placement.mask:
            return True
        taken |= placement.mask
    return False


def _undecided(
    planned: dict[str, tuple[str, str, int]], pods: Mapping[str, dict[str, Any]]
) -> Iterator[str]:
    decided = set()
    for name, pod in pods.items():
        node = pod["spec"].get("nodeName")
        text = pod["metadata"].get("annotations", {}).get(keys.DECISION_ANNOTATION)
        if not node:
            continue
        if pod["status"]["phase"] == "Failed":
            yield f"{name}: rejected by its kubelet: {pod['status'].get('reason')}"
        if text is None:
            yield f"{name}: bound without a decision"
            continue
        for decision in msgspec.json.decode(text, type=list[Decision]):
            decided.add(decision.id)
            if planned.get(decision.id) != (pod["metadata"]["uid"], node, decision.start):
                yield f"{name}: its decision is not what the plan says"
    if decided != planned.keys():
        yield f"entries of the plan without a bound pod: {planned.keys() - decided}"
