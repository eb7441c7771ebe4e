"""Evicting a pod, which its disruption budget may forbid."""

from __future__ import annotations

from typing import Any

import pytest

from nodeagent.apiserver.protocol import (
    POD_DISRUPTION_BUDGETS,
    PODS,
    Conflict,
    NotFound,
    PatchType,
    Refused,
    Throttled,
)
from tests.contracts.apiserver.exam import Exam, parsed, pod


async def running(exam: Exam, name: str, **labels: str) -> str:
    """Create a pod that runs on a node and is ready; return its UID."""
    made = await exam.pod(pod(name, labels=labels))
    await exam.bind(name, "node")
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    await exam.api.patch(
        PODS,
        name,
        {"status": status},
        patch_type=PatchType.MERGE,
        namespace=exam.ours,
        subresource="status",
    )
    return str(made["metadata"]["uid"])


async def budget(exam: Exam, name: str, selector: dict[str, Any], *, allows: int) -> None:
    """Create a budget that a controller has looked at."""
    body = {"metadata": {"name": name}, "spec": {"minAvailable": 1, "selector": selector}}
    await exam.api.create(POD_DISRUPTION_BUDGETS, body, namespace=exam.ours)
    counts = {"currentHealthy": 1 + allows, "desiredHealthy": 1, "expectedPods": 1 + allows}
    await exam.api.patch(
        POD_DISRUPTION_BUDGETS,
        name,
        {"status": {**counts, "disruptionsAllowed": allows, "observedGeneration": 1}},
        patch_type=PatchType.MERGE,
        namespace=exam.ours,
        subresource="status",
    )


async def evict(
    exam: Exam, name: str, *, uid: str = "", named: str = "", dry_run: bool = False
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": named or name, "namespace": exam.ours},
    }
    if uid:
        body["deleteOptions"] = {"preconditions": {"uid": uid}}
    answer = await exam.api.create(
        PODS,
        body,
        namespace=exam.ours,
        name=name,
        subresource="eviction",
        dry_run=dry_run,
    )
    return parsed(answer)


async def allowed(exam: Exam, name: str) -> int:
    stored = parsed(await exam.api.get(POD_DISRUPTION_BUDGETS, name, namespace=exam.ours))
    count: int = stored["status"]["disruptionsAllowed"]
    return count


async def test_an_evicted_pod_is_marked_as_a_deleted_one_is_and_says_why(exam: Exam) -> None:
    uid = await running(exam, "vm")
    answer = await evict(exam, "vm", uid=uid)

    going = await exam.stored_pod("vm")
    assert answer["status"] == "Success"
    assert going["metadata"]["deletionTimestamp"]
    why = {c["type"]: c["reason"] for c in going["status"]["conditions"] if "reason" in c}
    assert why["DisruptionTarget"] == "EvictionByEvictionAPI"


async def test_another_pod_of_that_name_is_not_evicted(exam: Exam) -> None:
    await running(exam, "vm")
    with pytest.raises(Conflict):
        await evict(exam, "vm", uid="another")
    assert "deletionTimestamp" not in (await exam.stored_pod("vm"))["metadata"]


async def test_a_pod_that_is_gone_is_not_evicted(exam: Exam) -> None:
    with pytest.raises(NotFound):
        await evict(exam, "vm")


async def test_an_eviction_names_its_pod(exam: Exam) -> None:
    await running(exam, "vm")
    with pytest.raises(Refused):
        await evict(exam, "vm", named="another")


@pytest.mark.parametrize(
    "selector",
    [
        {"matchLabels": {"app": "db"}},
        {"matchExpressions": [{"key": "app", "operator": "In", "values": ["db", "web"]}]},
        {"matchExpressions": [{"key": "app", "operator": "Exists"}]},
        {"matchExpressions": [{"key": "batch", "operator": "DoesNotExist"}]},
        {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]},
        {},
    ],
)
async def test_a_spent_budget_refuses_for_now(exam: Exam, selector: dict[str, Any]) -> None:
    await running(exam, "vm", app="db")
    await budget(exam, "guard", selector, allows=0)
    with pytest.raises(Throttled):
        await evict(exam, "vm")
    assert "deletionTimestamp" not in (await exam.stored_pod("vm"))["metadata"]


async def test_each_eviction_takes_one_from_the_budget(exam: Exam) -> None:
    for name in ("a", "b"):
        await running(exam, name, app="db")
    await running(exam, "other", app="web")
    await budget(exam, "guard", {"matchLabels": {"app": "db"}}, allows=1)

    await evict(exam, "other")
    assert await allowed(exam, "guard") == 1
    await evict(exam, "a")
    assert await allowed(exam, "guard") == 0
    with pytest.raises(Throttled):
        await evict(exam, "b")
    await evict(exam, "a")  # it is going: that costs nothing more


async def test_an_eviction_that_is_rehearsed_takes_nothing_and_ends_nobody(exam: Exam) -> None:
    uid = await running(exam, "vm", app="db")
    await budget(exam, "guard", {"matchLabels": {"app": "db"}}, allows=1)

    for _ in range(2):
        assert (await evict(exam, "vm", uid=uid, dry_run=True))["status"] == "Success"
    assert await allowed(exam, "guard") == 1
    assert "deletionTimestamp" not in (await exam.stored_pod("vm"))["metadata"]


async def test_an_eviction_that_is_rehearsed_is_refused_as_it_would_be(exam: Exam) -> None:
    await running(exam, "vm", app="db")
    with pytest.raises(Conflict):
        await evict(exam, "vm", uid="another", dry_run=True)
    await budget(exam, "guard", {"matchLabels": {"app": "db"}}, allows=0)
    with pytest.raises(Throttled):
        await evict(exam, "vm", dry_run=True)


async def test_a_budget_that_nobody_has_looked_at_says_when_to_come_again(exam: Exam) -> None:
    await running(exam, "vm", app="db")
    body = {
        "metadata": {"name": "guard"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "db"}}},
    }
    await exam.api.create(POD_DISRUPTION_BUDGETS, body, namespace=exam.ours)
    with pytest.raises(Throttled) as refused:
        await evict(exam, "vm")
    assert refused.value.retry_after == 10.0
