"""Whether a cluster is as it must be: judged from the API server's objects, by nobody's ledger."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from nodeagent.api import keys
from nodeagent.api.gpunode import Decision, GpuNode
from nodeagent.api.occupancy import occupancy
from tests.e2e.stack import RESOURCES

PROFILES = {resource: profile for profile, resource in RESOURCES.items()}


Place = tuple[str, int, int]
"""A GPU instance by GPU (UUID), profile id and first memory slice."""


def violations(
    nodes: Iterable[GpuNode],
    pods: Mapping[str, dict[str, Any]],
    foreign: Collection[Place] = (),
) -> Iterator[str]:
    """Yield what is wrong with plans, inventories and decisions; nothing if all is well.

    The GPU instances that are *foreign* must exist, and are in no plan.
    """
    planned: dict[str, tuple[str, str, int]] = {}
    for node in nodes:
        entries = {(a.gpu, a.profile_id, a.start) for a in node.spec.assignments}
        existing = {(g.uuid, i.profile_id, i.start) for g in node.status.gpus for i in g.instances}
        here = {place for place in foreign if any(place[0] == g.uuid for g in node.status.gpus)}
        if here - existing:
            yield f"{node.name}: foreign GPU instances are gone: {here - existing}"
        existing -= here
        if entries != existing:
            yield f"{node.name}: plan and inventory differ by {entries ^ existing}"
        if len(entries) != len(node.spec.assignments):
            yield f"{node.name}: the plan holds one place twice"
        for gpu in node.status.gpus:
            taken = 0
            for instance in gpu.instances:
                if taken & instance.placement.mask:
                    yield f"{node.name}: {gpu.uuid} has overlapping instances"
                taken |= instance.placement.mask
        for entry in node.spec.assignments:
            assert entry.pod is not None
            planned[entry.id] = (entry.pod.uid, node.name, entry.start)
    yield from _undecided(planned, pods)


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


def missed(nodes: Iterable[GpuNode], pods: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    """Yield the pending pods for which some GPU has a legal free placement."""
    nodes = tuple(nodes)
    wanted = {
        name: PROFILES[resource]
        for name, pod in pods.items()
        if not pod["spec"].get("nodeName")
        for resource in pod["spec"]["containers"][0]["resources"]["requests"]
        if resource in PROFILES
    }
    open_profiles = set()
    for node in nodes:
        for gpu in node.status.gpus:
            geometry = node.status.geometries[gpu.geometry]
            now = occupancy(geometry, gpu, node.spec.assignments)
            open_profiles |= {p.id for p in geometry.profiles if any(geometry.legal(now, p))}
    return (name for name, profile in wanted.items() if profile in open_profiles)
