"""What the agent writes about pods: an API server takes it, and has it once."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from nodeagent.api.gpunode import PodRef
from nodeagent.apiserver.events import LONGEST_MESSAGE
from nodeagent.apiserver.protocol import EVENTS
from nodeagent.pod_events import PodEvents
from tests.contracts.apiserver.exam import Exam, parsed, pod

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
VM = {
    "apiVersion": "kubevirt.io/v1",
    "kind": "VirtualMachineInstance",
    "name": "vm",
    "uid": "11111111-2222-4333-8444-555555555555",
    "controller": True,
}


@pytest.mark.parametrize("name", ["virt-launcher-vm", f"{'long.' * 45}four-{'er' * 9}"])
async def test_a_warning_is_there_once_for_the_pod_and_once_for_its_vm(
    exam: Exam, name: str
) -> None:
    body = pod(name)
    body["metadata"]["ownerReferences"] = [VM]
    made = await exam.pod(body)
    ref = PodRef(exam.ours, name, made["metadata"]["uid"])
    events = PodEvents(exam.api, "node", timeout=10.0)

    for message in ("the GPU is lost", "the GPU is lost", "x" * 2 * LONGEST_MESSAGE):
        await events.warn(ref, "GpuQuarantined", message, now=NOON)

    page = await exam.api.list(EVENTS, namespace=exam.ours)
    found = [parsed(each) for each in page.items]
    assert sorted(each["involvedObject"]["kind"] for each in found) == [
        "Pod",
        "Pod",
        "VirtualMachineInstance",
        "VirtualMachineInstance",
    ]
    assert {len(each["message"]) for each in found} == {len("the GPU is lost"), LONGEST_MESSAGE}
    assert {each["lastTimestamp"] for each in found} == {"2026-01-01T12:00:00Z"}


async def test_of_another_pod_of_that_name_nothing_is_told(exam: Exam) -> None:
    await exam.pod(pod("p"))
    events = PodEvents(exam.api, "node", timeout=10.0)

    await events.warn(PodRef(exam.ours, "p", "another"), "GpuQuarantined", "lost", now=NOON)
    await events.warn(PodRef(exam.ours, "q", "nobody"), "GpuQuarantined", "lost", now=NOON)

    assert (await exam.api.list(EVENTS, namespace=exam.ours)).items == []
