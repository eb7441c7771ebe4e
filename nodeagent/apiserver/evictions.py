"""What a kube-apiserver makes of an eviction: deletes the pod, if its disruption budget allows it.

Pure functions, as in ``semantics``. Left out: the leave that budgets give for pods not ready.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nodeagent.apiserver.protocol import Conflict, Refused, Throttled, Unavailable
from nodeagent.apiserver.selectors import Requirement

Value = dict[str, Any]

EVICTION = "eviction"
_UNGUARDED = ("Pending", "Succeeded", "Failed")
"""Phases in which a pod is deleted whatever a budget says."""


def admitted(pod: Value, name: str, eviction: Value, budgets: Iterable[Value]) -> Value | None:
    """Return the budget that allows an eviction, one less in it; None if none is about the pod.

    Raises:
        Refused: the eviction names another pod.
        Conflict: the pod is not the one meant.
        Throttled: its budget allows no more, or has yet to be looked at.
        Unavailable: it has several.
    """
    metadata = pod["metadata"]
    if (eviction.get("metadata") or {}).get("name") != name:
        raise Refused(400, "name in URL does not match name in Eviction object")
    conditions = (eviction.get("deleteOptions") or {}).get("preconditions") or {}
    if conditions.get("uid", metadata["uid"]) != metadata["uid"]:
        uid = conditions["uid"]
        raise Conflict(409, f"precondition failed: UID is {metadata['uid']}, not {uid}")
    if pod["status"].get("phase") in _UNGUARDED or "deletionTimestamp" in metadata:
        return None
    about = [each for each in budgets if _selects(each, metadata.get("labels") or {})]
    if not about:
        return None
    if len(about) > 1:
        raise Unavailable(500, "This pod has more than one PodDisruptionBudget")
    (budget,) = about
    status = budget.get("status") or {}
    if status.get("observedGeneration", 0) < budget["metadata"]["generation"]:
        text = f"The disruption budget {budget['metadata']['name']} is still being processed"
        raise Throttled(429, text, retry_after=10.0)
    if status.get("disruptionsAllowed", 0) < 1:
        raise Throttled(429, "Cannot evict pod as it would violate the pod's disruption budget.")
    return {**budget, "status": {**status, "disruptionsAllowed": status["disruptionsAllowed"] - 1}}


def marked(pod: Value) -> Value:
    """Return a pod with the condition that tells why it goes."""
    target = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
    others = [c for c in pod["status"].get("conditions", []) if c["type"] != target["type"]]
    return {**pod, "status": {**pod["status"], "conditions": [*others, target]}}


def _selects(budget: Value, labels: Mapping[str, str]) -> bool:
    selector = (budget.get("spec") or {}).get("selector")
    return selector is not None and all(each.holds(labels) for each in _requirements(selector))


def _requirements(selector: Value) -> Iterable[Requirement]:
    for key, value in (selector.get("matchLabels") or {}).items():
        yield Requirement(key, frozenset({value}))
    for each in selector.get("matchExpressions") or ():
        values = frozenset(each.get("values") or ()) or None
        yield Requirement(each["key"], values, each["operator"] in ("In", "Exists"))
