"""The invariants, counted from the GPUs and the bound pods; no ledger and no plan is asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from nodeagent.api import keys
from nodeagent.api.gpunode import Decision
from nodeagent.simulated.hardware import Hardware


class Audit(msgspec.Struct, frozen=True):
    """How often each promise was broken; all zero on a sound cluster."""

    double_promised: int = 0
    lost_assignments: int = 0


def audit(hardware: Mapping[str, Hardware], pods: Iterable[Mapping[str, Any]]) -> Audit:
    """Count what two users hold at once, and what a bound pod was promised and does not hold.

    *double_promised* counts memory slices that two live GPU instances or two bound pods' decisions
    cover, and users of an instance beyond its first. *lost_assignments* counts the instances that
    a bound pod's decision names and that pod does not hold, at that GPU and start.
    """
    double = sum(
        _covered_twice(i.placement.mask for i in gpu.instances.values())
        + sum(max(0, len(users) - 1) for users in gpu.clients.values())
        for node in hardware.values()
        for gpu in node.gpus
    )
    lost = 0
    promised: dict[str, list[int]] = {}
    for pod in pods:
        node = hardware.get(pod["spec"].get("nodeName", ""))
        if node is None:
            continue
        for decision in _decisions(pod):
            mask = ((1 << decision.size) - 1) << decision.start
            promised.setdefault(decision.gpu, []).append(mask)
            lost += not _holds(node, decision, pod["metadata"]["uid"])
    double += sum(_covered_twice(masks) for masks in promised.values())
    return Audit(double, lost)


def instances(hardware: Mapping[str, Hardware]) -> int:
    """Count the GPU instances that exist; after all VMs have left, these are leaked."""
    return sum(len(gpu.instances) for node in hardware.values() for gpu in node.gpus)


def _covered_twice(masks: Iterable[int]) -> int:
    taken = twice = 0
    for mask in masks:
        twice |= taken & mask
        taken |= mask
    return twice.bit_count()


def _decisions(pod: Mapping[str, Any]) -> list[Decision]:
    text = pod["metadata"].get("annotations", {}).get(keys.DECISION_ANNOTATION, "[]")
    return msgspec.json.decode(text, type=list[Decision])


def _holds(node: Hardware, decision: Decision, uid: str) -> bool:
    for gpu in node.gpus:
        for gi_id, instance in gpu.instances.items():
            if (gpu.uuid, instance.profile_id, instance.placement.start) == (
                decision.gpu,
                decision.profile_id,
                decision.start,
            ):
                return uid in gpu.clients.get(gi_id, ())
    return False
