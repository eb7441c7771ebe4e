"""Binding a pod, and its end."""

from __future__ import annotations

import pytest

from nodeagent.apiserver.protocol import (
    PODS,
    Conflict,
    Invalid,
    NotFound,
    PatchType,
    Refused,
    Unavailable,
)
from tests.contracts.apiserver.exam import Exam, parsed, pod, version


async def test_a_binding_writes_node_and_annotations_in_one_step(exam: Exam) -> None:
    body = pod("vm")
    body["metadata"]["annotations"] = {"mine": "1", "decision": "old"}
    made = await exam.pod(body)
    listed = await exam.api.list(PODS, namespace=exam.ours)
    await exam.bind("vm", "no-such-node", annotations={"decision": "new"})

    bound = await exam.stored_pod("vm")
    assert bound["spec"]["nodeName"] == "no-such-node"
    assert bound["metadata"]["annotations"] == {"mine": "1", "decision": "new"}
    assert bound["metadata"]["uid"] == made["metadata"]["uid"]
    scheduled = [c for c in bound["status"]["conditions"] if c["type"] == "PodScheduled"]
    assert [c["status"] for c in scheduled] == ["True"]

    events = exam.api.watch(
        PODS,
        resource_version=listed.resource_version,
        namespace=exam.ours,
        timeout=exam.shortest_watch,
    )
    seen = [e async for e in events if e.type != "BOOKMARK"]
    assert len(seen) == 1


async def test_a_binding_answers_success(exam: Exam) -> None:
    made = await exam.pod(pod("vm"))
    answer = await exam.bind("vm", "node", uid=made["metadata"]["uid"])
    assert (answer["kind"], answer["status"]) == ("Status", "Success")


async def test_a_binding_for_another_pod_of_that_name_conflicts(exam: Exam) -> None:
    await exam.pod(pod("vm"))
    with pytest.raises(Conflict):
        await exam.bind("vm", "node", uid="another")
    assert "nodeName" not in (await exam.stored_pod("vm"))["spec"]


async def test_a_binding_for_another_version_of_the_pod_conflicts(exam: Exam) -> None:
    made = await exam.pod(pod("vm"))
    changed = await exam.api.patch(
        PODS,
        "vm",
        {"metadata": {"annotations": {"a": "b"}, "resourceVersion": version(made)}},
        patch_type=PatchType.MERGE,
        namespace=exam.ours,
    )

    with pytest.raises(Conflict):
        await exam.bind("vm", "node", resourceVersion=version(made))
    assert "nodeName" not in (await exam.stored_pod("vm"))["spec"]

    await exam.bind("vm", "node", resourceVersion=version(parsed(changed)))
    assert (await exam.stored_pod("vm"))["spec"]["nodeName"] == "node"


@pytest.mark.parametrize("node", ["node", "another"])
async def test_a_bound_pod_is_bound_only_once(exam: Exam, node: str) -> None:
    made = await exam.pod(pod("vm"))
    await exam.bind("vm", "node", uid=made["metadata"]["uid"])
    with pytest.raises(Conflict):
        await exam.bind("vm", node, uid=made["metadata"]["uid"])


async def test_a_pod_that_is_gone_is_not_bound(exam: Exam) -> None:
    with pytest.raises(NotFound):
        await exam.bind("vm", "node")


async def test_a_gated_pod_is_not_bound(exam: Exam) -> None:
    await exam.pod(pod("vm", schedulingGates=[{"name": "example.com/wait"}]))
    with pytest.raises(Conflict):
        await exam.bind("vm", "node")


async def test_a_binding_names_its_pod(exam: Exam) -> None:
    await exam.pod(pod("vm"))
    with pytest.raises(Refused):
        await exam.bind("vm", "node", name="another")


async def test_a_binding_names_a_node(exam: Exam) -> None:
    await exam.pod(pod("vm"))
    with pytest.raises(Unavailable, match=r"target\.name"):
        await exam.bind("vm", "")


async def test_nothing_but_a_binding_puts_a_pod_on_a_node(exam: Exam) -> None:
    await exam.pod(pod("vm"))
    with pytest.raises(Invalid):
        await exam.api.patch(
            PODS,
            "vm",
            {"spec": {"nodeName": "node"}},
            patch_type=PatchType.MERGE,
            namespace=exam.ours,
        )


async def test_a_pod_that_is_nowhere_goes_at_once(exam: Exam) -> None:
    await exam.pod(pod("vm"))
    await exam.api.delete(PODS, "vm", namespace=exam.ours)
    with pytest.raises(NotFound):
        await exam.stored_pod("vm")


async def test_a_pod_on_a_node_is_marked_and_goes_when_its_kubelet_says_so(exam: Exam) -> None:
    made = await exam.pod(pod("vm"))
    await exam.bind("vm", "node")
    await exam.api.delete(PODS, "vm", namespace=exam.ours)

    going = await exam.stored_pod("vm")
    assert going["metadata"]["deletionTimestamp"]
    assert going["metadata"]["deletionGracePeriodSeconds"] == 30
    assert going["metadata"]["generation"] > made["metadata"]["generation"]

    await exam.api.delete(PODS, "vm", namespace=exam.ours, uid=made["metadata"]["uid"])
    assert await exam.stored_pod("vm") == going

    await exam.api.delete(PODS, "vm", namespace=exam.ours, grace_seconds=0)
    with pytest.raises(NotFound):
        await exam.stored_pod("vm")


async def test_a_shorter_grace_shortens_the_first(exam: Exam) -> None:
    await exam.pod(pod("vm", terminationGracePeriodSeconds=60))
    await exam.bind("vm", "node")
    await exam.api.delete(PODS, "vm", namespace=exam.ours)
    await exam.api.delete(PODS, "vm", namespace=exam.ours, grace_seconds=90)
    assert await grace(exam) == 60

    await exam.api.delete(PODS, "vm", namespace=exam.ours, grace_seconds=5)
    assert await grace(exam) == 5


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
async def test_a_pod_that_has_ended_goes_at_once(exam: Exam, phase: str) -> None:
    await exam.pod(pod("vm"))
    await exam.bind("vm", "node")
    await exam.api.patch(
        PODS,
        "vm",
        {"status": {"phase": phase}},
        patch_type=PatchType.MERGE,
        namespace=exam.ours,
        subresource="status",
    )
    await exam.api.delete(PODS, "vm", namespace=exam.ours)
    with pytest.raises(NotFound):
        await exam.stored_pod("vm")


async def test_a_new_pod_is_pending_whatever_it_says(exam: Exam) -> None:
    made = await exam.pod(pod("vm") | {"status": {"phase": "Running"}})
    assert made["status"]["phase"] == "Pending"


async def grace(exam: Exam) -> int:
    seconds: int = (await exam.stored_pod("vm"))["metadata"]["deletionGracePeriodSeconds"]
    return seconds
