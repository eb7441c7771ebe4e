"""What a kube-apiserver makes of the objects it is given: pure functions from value to value.

Every function returns the object to store; those that read one may change it on the way.
"""

from __future__ import annotations

from typing import Any

import msgspec

from nodeagent.apiserver.patches import same
from nodeagent.apiserver.protocol import (
    CONFIG_MAPS,
    EVENTS,
    LEASES,
    NAMESPACES,
    NODES,
    POD_DISRUPTION_BUDGETS,
    PODS,
    Conflict,
    Invalid,
    Kind,
    Refused,
    Unavailable,
)

Value = dict[str, Any]

STATUS = "status"
BINDING = "binding"
_OWNED_BY_THE_SERVER = (
    "namespace",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
)


class Rules(msgspec.Struct, frozen=True):
    """How a kind's objects are treated. The defaults are a custom resource's, with a status."""

    status_subresource: bool = True
    """Whether the status has a door of its own, and each door lets only its part through."""
    keeps_given_status: bool = False
    """Whether an object may be created together with its status."""
    counts_generations: bool = True
    fixed: tuple[str, ...] = ()
    """Members of the spec that no update changes."""
    selectable: frozenset[str] = frozenset({"metadata.name", "metadata.namespace"})


RULES = {
    NODES: Rules(keeps_given_status=True, counts_generations=False),
    NAMESPACES: Rules(counts_generations=False),
    PODS: Rules(
        fixed=("nodeName", "containers"),
        selectable=Rules().selectable | {"spec.nodeName", "status.phase"},
    ),
    CONFIG_MAPS: Rules(status_subresource=False, counts_generations=False),
    LEASES: Rules(status_subresource=False, counts_generations=False),
    POD_DISRUPTION_BUDGETS: Rules(),
    EVENTS: Rules(status_subresource=False, counts_generations=False),
}
"""The built-in kinds, as observed on a kube-apiserver 1.36."""


def created(
    kind: Kind, rules: Rules, value: Value, *, namespace: str, suffix: str, uid: str, now: str
) -> Value:
    """Complete a new object; *suffix* ends a generated name."""
    given = value.get("metadata") or {}
    name = given.get("name") or (given["generateName"] + suffix if "generateName" in given else "")
    if not name:
        raise Invalid(422, "name or generateName is required")
    if given.get("resourceVersion"):
        raise Unavailable(500, "resourceVersion should not be set on objects to be created")
    if given.get("namespace", namespace) != namespace:
        raise Refused(
            400, "the namespace of the object does not match the namespace of the request"
        )
    metadata = {**given, "name": name, "uid": uid, "creationTimestamp": now}
    if namespace:
        metadata["namespace"] = namespace
    if rules.counts_generations:
        metadata["generation"] = 1
    made = {**value, "metadata": metadata}
    if rules.status_subresource and not rules.keeps_given_status:
        made.pop(STATUS, None)
    if kind == PODS:
        made["spec"] = {"terminationGracePeriodSeconds": 30, **made.get("spec", {})}
        made[STATUS] = {"phase": "Pending"}
    return made


def updated(rules: Rules, before: Value, after: Any, *, subresource: str) -> Value:
    """Let through of *after* what that door may change, and move the generation with the spec.

    Raises:
        Conflict: *after* carries another version.
        Invalid: *after* carries another object's UID, or changes what stays as it is.
    """
    if not isinstance(after, dict) or not isinstance(after.get("metadata"), dict):
        raise Invalid(422, "not an object with metadata")
    old, new = before["metadata"], after["metadata"]
    if new.get("name") != old["name"]:
        raise Refused(400, "the name of the object does not match the name on the URL")
    if new.get("uid") not in (None, "", old["uid"]):
        raise Invalid(422, "metadata.uid: field is immutable")
    if new.get("resourceVersion") not in (None, "", old["resourceVersion"]):
        raise Conflict(
            409, "the object has been modified; apply your changes to the latest version"
        )
    if subresource == STATUS:
        return _with_status_of(after, before)
    kept = {name: old[name] for name in _OWNED_BY_THE_SERVER if name in old}
    metadata = {k: v for k, v in new.items() if k not in _OWNED_BY_THE_SERVER} | kept
    result = {**after, "metadata": metadata}
    if rules.status_subresource:
        result = _with_status_of(before, result)
    if any(_spec(before).get(name) != _spec(result).get(name) for name in rules.fixed):
        raise Invalid(422, f"spec: Forbidden: updates may not change {' or '.join(rules.fixed)}")
    if rules.counts_generations and not same(_desired(rules, before), _desired(rules, result)):
        metadata["generation"] += 1
    return result


def bound(pod: Value, name: str, binding: Value) -> Value:
    """Put *pod* on the binding's node, annotations and condition included, all in one write.

    Whether that node exists nobody asks, here as there.

    Raises:
        Conflict: the pod is another, in another version, on a node already (be it the same), gated
            or going.
    """
    given, metadata, spec = binding.get("metadata") or {}, pod["metadata"], pod["spec"]
    if given.get("name") != name:
        raise Refused(400, "name in URL does not match name in Binding object")
    if not (node := (binding.get("target") or {}).get("name")):
        raise Unavailable(500, "target.name: Required value")
    if given.get("uid", metadata["uid"]) != metadata["uid"]:
        raise Conflict(409, f"precondition failed: UID is {metadata['uid']}, not {given['uid']}")
    version = metadata["resourceVersion"]
    if given.get("resourceVersion") not in (None, "", version):
        raise Conflict(409, f"precondition failed: resourceVersion is {version}")
    if "deletionTimestamp" in metadata:
        raise Conflict(409, f"pod {name} is being deleted, cannot be assigned to a host")
    if spec.get("nodeName"):
        raise Conflict(409, f"pod {name} is already assigned to node {spec['nodeName']!r}")
    if spec.get("schedulingGates"):
        raise Conflict(409, f"pod {name} has non-empty .spec.schedulingGates")
    for attribute in ("annotations", "labels"):
        if given.get(attribute):
            metadata[attribute] = {**(metadata.get(attribute) or {}), **given[attribute]}
    spec["nodeName"] = node
    conditions = [c for c in pod[STATUS].get("conditions", []) if c["type"] != "PodScheduled"]
    pod[STATUS]["conditions"] = [*conditions, {"type": "PodScheduled", "status": "True"}]
    return pod


def grace_period(kind: Kind, value: Value, asked: int | None) -> int:
    """Return for how many seconds a deleted object stays: 0 unless it is a pod on a node."""
    if kind != PODS or not value["spec"].get("nodeName"):
        return 0
    if value[STATUS].get("phase") in ("Succeeded", "Failed"):
        return 0
    seconds: int = value["spec"]["terminationGracePeriodSeconds"] if asked is None else asked
    return seconds if seconds >= 0 else 1


def marked(value: Value, *, grace_seconds: int, deadline: str) -> Value:
    """Mark *value* as going; a second deletion only ever shortens the grace."""
    metadata = value["metadata"]
    if metadata.get("deletionGracePeriodSeconds", grace_seconds + 1) <= grace_seconds:
        return value
    if "deletionTimestamp" not in metadata:
        metadata["generation"] += 1
    metadata["deletionTimestamp"] = deadline
    metadata["deletionGracePeriodSeconds"] = grace_seconds
    return value


def _with_status_of(source: Value, target: Value) -> Value:
    result = {name: value for name, value in target.items() if name != STATUS}
    return result | ({STATUS: source[STATUS]} if STATUS in source else {})


def _desired(rules: Rules, value: Value) -> Value:
    left_out = ("metadata", STATUS) if rules.status_subresource else ("metadata",)
    return {name: member for name, member in value.items() if name not in left_out}


def _spec(value: Value) -> Value:
    return value.get("spec") or {}
