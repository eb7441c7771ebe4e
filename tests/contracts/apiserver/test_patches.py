"""Compare-and-swap, generations, and what each door lets through."""

from __future__ import annotations

from typing import Any

import pytest

from nodeagent.apiserver.protocol import (
    GPU_NODES,
    LEASES,
    ApiError,
    Conflict,
    Invalid,
    NotFound,
    PatchType,
    Refused,
)
from tests.contracts.apiserver.exam import Exam, Value, assignment, parsed, version


def swap(read: Value, plan: Value) -> list[Value]:
    """Return the JSON Patch by which a plan is written: only onto what was read."""
    metadata = read["metadata"]
    return [
        {"op": "test", "path": "/metadata/uid", "value": metadata["uid"]},
        {"op": "test", "path": "/metadata/generation", "value": metadata["generation"]},
        {"op": "replace", "path": "/spec", "value": plan},
    ]


def on_plan(*assignments: Value) -> Value:
    return {"assignments": list(assignments)}


async def test_of_two_who_read_the_same_plan_one_writes_it(exam: Exam) -> None:
    read = await exam.gpu_node()
    written = await exam.patch(swap(read, on_plan(assignment("first"))))
    with pytest.raises(Invalid):
        await exam.patch(swap(read, on_plan(assignment("second"))))

    assert written["metadata"]["generation"] == 2
    assert await exam.stored() == written
    assert written["spec"] == on_plan(assignment("first"))


async def test_a_plan_is_not_written_onto_a_successor_of_the_same_name(exam: Exam) -> None:
    read = await exam.gpu_node()
    await exam.api.delete(GPU_NODES, exam.name())
    await exam.gpu_node()
    with pytest.raises(Invalid):
        await exam.patch(swap(read, on_plan(assignment("a"))))


async def test_the_status_neither_moves_the_generation_nor_disturbs_the_plan(exam: Exam) -> None:
    read = await exam.gpu_node()
    reported = await exam.patch({"status": {"sequence": 1}}, subresource="status")
    written = await exam.patch(swap(read, on_plan(assignment("a"))))

    assert reported["metadata"]["generation"] == 1
    assert version(reported) != version(read)
    assert written["metadata"]["generation"] == 2
    assert written["status"] == {"sequence": 1}


async def test_each_door_lets_only_its_part_through(exam: Exam) -> None:
    made = await exam.gpu_node()
    everything = {
        "metadata": {"annotations": {"a": "b"}},
        "spec": on_plan(assignment("a")),
        "status": {"sequence": 1},
    }
    reported = await exam.patch(everything, subresource="status")
    assert reported["status"] == {"sequence": 1}
    assert reported["spec"] == made["spec"]
    assert "annotations" not in reported["metadata"]

    everything["status"] = {"sequence": 2}
    written = await exam.patch(everything)
    assert written["status"] == {"sequence": 1}
    assert written["spec"] == on_plan(assignment("a"))
    assert written["metadata"]["annotations"] == {"a": "b"}
    assert written["metadata"]["generation"] == 2


async def test_metadata_does_not_move_the_generation(exam: Exam) -> None:
    made = await exam.gpu_node()
    changed = await exam.patch({"metadata": {"annotations": {"a": "b"}}})

    assert changed["metadata"]["generation"] == made["metadata"]["generation"]
    assert version(changed) != version(made)


async def test_a_patch_that_changes_nothing_writes_nothing(exam: Exam) -> None:
    made = await exam.gpu_node()
    assert await exam.patch({"spec": made["spec"]}) == made
    assert await exam.patch([{"op": "test", "path": "/spec/assignments", "value": []}]) == made


async def test_what_the_server_owns_cannot_be_patched(exam: Exam) -> None:
    made = await exam.gpu_node()
    changed = await exam.patch(
        {"metadata": {"generation": 9, "creationTimestamp": "2001-01-01T00:00:00Z"}}
    )
    assert changed["metadata"]["generation"] == 1
    assert changed["metadata"]["creationTimestamp"] == made["metadata"]["creationTimestamp"]


@pytest.mark.parametrize(
    ("precondition", "error"), [("uid", Invalid), ("resourceVersion", Conflict)]
)
async def test_a_merge_patch_can_carry_a_precondition(
    exam: Exam, precondition: str, error: type[ApiError]
) -> None:
    made = await exam.gpu_node()
    held = {precondition: made["metadata"][precondition]}
    await exam.patch({"metadata": held, "spec": on_plan(assignment("a"))})
    with pytest.raises(error):
        await exam.patch({"metadata": {precondition: "12345"}, "spec": on_plan()})


async def test_of_two_who_claim_a_released_lease_one_gets_it_and_can_release_it(
    exam: Exam,
) -> None:
    name, given = exam.name(), {"holderIdentity": "", "leaseDurationSeconds": 15}
    body = {"metadata": {"name": name}, "spec": given}
    made = parsed(await exam.api.create(LEASES, body, namespace=exam.ours))

    async def claim(holder: str, upon: Value) -> Value:
        patch = {
            "metadata": {"resourceVersion": version(upon)},
            "spec": {"holderIdentity": holder, "renewTime": "2026-01-02T03:04:05.000006Z"},
        }
        return parsed(
            await exam.api.patch(
                LEASES, name, patch, patch_type=PatchType.MERGE, namespace=exam.ours
            )
        )

    claimed = await claim("one", made)
    with pytest.raises(Conflict):
        await claim("other", made)
    released = await claim("", claimed)
    await exam.api.delete(LEASES, name, namespace=exam.ours)
    with pytest.raises(NotFound):
        await claim("other", released)

    assert claimed["spec"]["holderIdentity"] == "one"
    assert len({version(each) for each in (made, claimed, released)}) == 3
    assert released["spec"]["holderIdentity"] == ""
    assert released["spec"]["leaseDurationSeconds"] == 15


async def test_a_name_stays(exam: Exam) -> None:
    await exam.gpu_node()
    with pytest.raises(Refused):
        await exam.patch({"metadata": {"name": "another"}})


async def test_a_merge_patch_merges_members_replaces_lists_and_removes_with_null(
    exam: Exam,
) -> None:
    await exam.gpu_node(spec=on_plan(assignment("a"), assignment("b", start=4)))
    await exam.patch({"metadata": {"annotations": {"kept": "1", "gone": "2"}}})
    changed = await exam.patch(
        {
            "metadata": {"annotations": {"gone": None, "new": "3"}},
            "spec": on_plan(assignment("c")),
        }
    )
    assert changed["metadata"]["annotations"] == {"kept": "1", "new": "3"}
    assert changed["spec"] == on_plan(assignment("c"))


async def test_json_patch_operations_apply_in_turn(exam: Exam) -> None:
    await exam.gpu_node()
    changed = await exam.patch(
        [
            {"op": "replace", "path": "/metadata/annotations", "value": {}},
            {"op": "add", "path": "/metadata/annotations/tangram.dev~1a", "value": "slash"},
            {"op": "add", "path": "/spec/assignments/-", "value": assignment("b")},
            {"op": "add", "path": "/spec/assignments/0", "value": assignment("a")},
            {"op": "add", "path": "/spec/assignments/2", "value": assignment("d")},
            {"op": "replace", "path": "/spec/assignments/1/start", "value": 4},
            {"op": "remove", "path": "/spec/assignments/2"},
            {"op": "test", "path": "/spec/assignments/1", "value": assignment("b", start=4)},
            {"op": "test", "path": "/metadata/annotations/tangram.dev~1a", "value": "slash"},
            {"op": "test", "path": "/metadata/finalizers", "value": None},
        ]
    )
    assert changed["spec"] == on_plan(assignment("a"), assignment("b", start=4))
    assert changed["metadata"]["annotations"] == {"tangram.dev/a": "slash"}
    assert changed["metadata"]["generation"] == 2


@pytest.mark.parametrize(
    "failing",
    [
        {"op": "test", "path": "/metadata/name", "value": "another"},
        {"op": "test", "path": "/metadata/generation", "value": "1"},
        {"op": "test", "path": "/metadata/generation", "value": True},
        {"op": "test", "path": "/nowhere/at/all", "value": "x"},
        {"op": "remove", "path": "/metadata/annotations"},
        {"op": "remove", "path": "/spec/assignments/0"},
        {"op": "replace", "path": "/metadata/annotations/a", "value": "b"},
        {"op": "replace", "path": "/spec/assignments/0", "value": {}},
        {"op": "add", "path": "/metadata/annotations/a", "value": "b"},
        {"op": "add", "path": "/spec/assignments/1", "value": {}},
    ],
    ids=lambda operation: f"{operation['op']} {operation['path']}",
)
async def test_a_json_patch_that_fails_changes_nothing(exam: Exam, failing: Value) -> None:
    made = await exam.gpu_node()
    with pytest.raises(Invalid):
        await exam.patch([{"op": "add", "path": "/metadata/labels/new", "value": "x"}, failing])
    assert await exam.stored() == made


async def test_a_patch_of_the_wrong_shape_is_refused(exam: Exam) -> None:
    await exam.gpu_node()
    with pytest.raises(Refused):
        await exam.api.patch(GPU_NODES, exam.name(), {"spec": {}}, patch_type=PatchType.JSON)


@pytest.mark.parametrize(("kind", "subresource"), [(GPU_NODES, "scale"), (LEASES, "status")])
async def test_a_door_that_is_not_there_is_not_found(
    exam: Exam, kind: Any, subresource: str
) -> None:
    namespace = exam.ours if kind.namespaced else ""
    await exam.api.create(
        kind,
        {
            "apiVersion": f"{kind.group}/{kind.version}",
            "kind": "Lease" if kind == LEASES else "GpuNode",
            "metadata": {"name": exam.name()},
            "spec": {},
        },
        namespace=namespace,
    )
    with pytest.raises(NotFound):
        await exam.api.patch(
            kind,
            exam.name(),
            {"status": {}},
            patch_type=PatchType.MERGE,
            namespace=namespace,
            subresource=subresource,
        )


async def test_nobody_patches_what_does_not_exist(exam: Exam) -> None:
    with pytest.raises(NotFound):
        await exam.patch({"spec": {}})
