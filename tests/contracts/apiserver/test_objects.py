"""Creating, reading and deleting."""

from __future__ import annotations

import pytest

from nodeagent.apiserver.protocol import (
    GPU_NODES,
    LEASES,
    NODES,
    PODS,
    Conflict,
    Invalid,
    Kind,
    NotFound,
    Refused,
    Unavailable,
)
from tests.contracts.apiserver.exam import Exam, assignment, parsed, pod


async def test_a_created_object_has_an_identity_and_its_first_generation(exam: Exam) -> None:
    made = await exam.gpu_node(spec={"assignments": [assignment("a")]})

    assert made["metadata"]["generation"] == 1
    assert made["metadata"]["uid"]
    assert made["metadata"]["creationTimestamp"].endswith("Z")
    assert made["spec"] == {"assignments": [assignment("a")]}
    assert await exam.stored() == made


async def test_a_custom_resource_is_created_without_status(exam: Exam) -> None:
    assert "status" not in await exam.gpu_node(status={"bootId": "b"})


async def test_a_node_is_created_with_its_status(exam: Exam) -> None:
    body = {"metadata": {"name": exam.name()}, "status": {"allocatable": {"cpu": "8"}}}
    made = parsed(await exam.api.create(NODES, body))

    assert made["status"]["allocatable"] == {"cpu": "8"}


async def test_a_name_is_taken_once(exam: Exam) -> None:
    await exam.gpu_node()
    with pytest.raises(Conflict):
        await exam.gpu_node()


async def test_names_are_generated(exam: Exam) -> None:
    body = pod("")
    body["metadata"] = {"generateName": "vm-"}
    made = [(await exam.pod(body))["metadata"]["name"] for _ in range(2)]

    assert all(name.startswith("vm-") and len(name) == len("vm-") + 5 for name in made)
    assert made[0] != made[1]


async def test_an_object_without_a_name_is_invalid(exam: Exam) -> None:
    body = pod("")
    body["metadata"] = {}
    with pytest.raises(Invalid):
        await exam.pod(body)


async def test_a_namespaced_object_is_created_in_a_namespace_of_its_own(exam: Exam) -> None:
    with pytest.raises(Refused) as refused:
        await exam.api.create(PODS, pod("p"))
    assert refused.value.status == 405

    elsewhere = pod("p")
    elsewhere["metadata"]["namespace"] = "elsewhere"
    with pytest.raises(Refused) as refused:
        await exam.pod(elsewhere)
    assert refused.value.status == 400


async def test_what_was_read_is_not_created_again_as_it_is(exam: Exam) -> None:
    made = await exam.gpu_node()
    made["metadata"]["name"] = exam.name("copy")
    with pytest.raises(Unavailable, match="resourceVersion should not be set"):
        await exam.api.create(GPU_NODES, made)


async def test_a_lease_is_created_and_renewed(exam: Exam) -> None:
    body = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "agent"},
        "spec": {"holderIdentity": "a", "leaseDurationSeconds": 40},
    }
    made = parsed(await exam.api.create(LEASES, body, namespace=exam.ours))

    assert made["spec"]["holderIdentity"] == "a"
    assert "generation" not in made["metadata"]


@pytest.mark.parametrize("kind", [GPU_NODES, Kind("tangram.dev", "v1alpha1", "no-such", False)])
async def test_what_does_not_exist_is_not_found(exam: Exam, kind: Kind) -> None:
    with pytest.raises(NotFound):
        await exam.api.get(kind, "nobody")
    with pytest.raises(NotFound):
        await exam.api.delete(kind, "nobody")


async def test_a_deleted_object_is_gone_and_its_successor_has_another_uid(exam: Exam) -> None:
    first = await exam.gpu_node()
    await exam.api.delete(GPU_NODES, exam.name())
    with pytest.raises(NotFound):
        await exam.stored()

    second = await exam.gpu_node()
    assert second["metadata"]["uid"] != first["metadata"]["uid"]


async def test_a_deletion_with_anothers_uid_deletes_nothing(exam: Exam) -> None:
    made = await exam.gpu_node()
    with pytest.raises(Conflict):
        await exam.api.delete(GPU_NODES, exam.name(), uid="another")
    assert await exam.stored() == made

    await exam.api.delete(GPU_NODES, exam.name(), uid=made["metadata"]["uid"])
    with pytest.raises(NotFound):
        await exam.stored()


async def test_what_the_caller_does_to_a_body_afterwards_changes_nothing(exam: Exam) -> None:
    plan = {"assignments": [assignment("a")]}
    made = await exam.gpu_node(spec=plan)
    plan["assignments"].clear()

    assert (await exam.stored())["spec"] == made["spec"] == {"assignments": [assignment("a")]}
