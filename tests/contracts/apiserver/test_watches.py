"""Watches: everything after a version, in order, and what selectors make of it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from nodeagent.apiserver.protocol import GPU_NODES, PODS, EventType, Gone
from nodeagent.apiserver.reflector import Deleted, Replaced, Upserted, reflect
from tests.contracts.apiserver.exam import (
    HEARD_WITHIN_SECONDS,
    Exam,
    assignment,
    heard,
    parsed,
    pod,
    version,
)


async def test_a_watch_tells_what_happened_and_what_happens_after_its_version(exam: Exam) -> None:
    made = await exam.gpu_node()
    before = await exam.patch({"spec": {"assignments": [assignment("a")]}})
    async with exam.watched_gpu_nodes(version(made)) as events:
        first = await heard(events)
        after = await exam.patch({"status": {"sequence": 1}}, subresource="status")
        second = await heard(events)

    assert [first.type, second.type] == [EventType.MODIFIED, EventType.MODIFIED]
    assert [parsed(first.object), parsed(second.object)] == [before, after]
    assert [first.resource_version, second.resource_version] == [version(before), version(after)]


async def test_a_watch_opens_with_a_bookmark_at_its_version(exam: Exam) -> None:
    made = await exam.gpu_node()
    async with contextlib.aclosing(
        exam.api.watch(GPU_NODES, resource_version=version(made))
    ) as events:
        opening = await heard(events)
    assert (opening.type, opening.resource_version) == (EventType.BOOKMARK, version(made))


async def test_a_deletion_shows_the_object_as_it_was_under_the_deletions_version(
    exam: Exam,
) -> None:
    made = await exam.gpu_node(spec={"assignments": [assignment("a")]})
    async with exam.watched_gpu_nodes(version(made)) as events:
        await exam.api.delete(GPU_NODES, exam.name())
        event = await heard(events)

    assert event.type == EventType.DELETED
    last = parsed(event.object)
    assert last["spec"] == made["spec"]
    assert int(version(last)) > int(version(made))
    assert event.resource_version == version(last)


async def test_an_object_enters_and_leaves_a_selection(exam: Exam) -> None:
    made = await exam.gpu_node()
    selection = f"{exam.label},tier=gold"
    async with exam.watched_gpu_nodes(version(made), label_selector=selection) as events:
        entered = await exam.patch({"metadata": {"labels": {"tier": "gold"}}})
        stayed = await exam.patch({"spec": {"assignments": [assignment("a")]}})
        left = await exam.patch({"metadata": {"labels": {"tier": "silver"}}})
        await exam.patch({"spec": {"assignments": []}})
        await exam.patch({"metadata": {"labels": {"tier": "gold"}}})
        seen = [await heard(events) for _ in range(4)]

    kinds = [EventType.ADDED, EventType.MODIFIED, EventType.DELETED, EventType.ADDED]
    assert [event.type for event in seen] == kinds
    assert [parsed(event.object) for event in seen[:2]] == [entered, stayed]
    last = parsed(seen[2].object)
    assert last["metadata"]["labels"]["tier"] == "gold"  # the last that matched
    assert version(last) == version(left)


async def test_a_pod_enters_its_nodes_selection_when_it_is_bound(exam: Exam) -> None:
    made = await exam.pod(pod("vm"))
    async with contextlib.aclosing(
        exam.api.watch(
            PODS,
            resource_version=version(made),
            namespace=exam.ours,
            field_selector="spec.nodeName=node",
        )
    ) as events:
        await heard(events)
        await exam.bind("vm", "node")
        event = await heard(events)
    assert event.type == EventType.ADDED
    assert parsed(event.object)["spec"]["nodeName"] == "node"


async def test_a_watch_is_about_one_object_where_it_is_named(exam: Exam) -> None:
    made = await exam.gpu_node("a")
    named = f"metadata.name={exam.name('b')}"
    async with exam.watched_gpu_nodes(version(made), field_selector=named) as events:
        await exam.patch({"spec": {"assignments": [assignment("x")]}}, name="a")
        await exam.gpu_node("b")
        event = await heard(events)
    assert (event.type, parsed(event.object)["metadata"]["name"]) == (
        EventType.ADDED,
        exam.name("b"),
    )


async def test_a_quiet_watch_ends_in_peace_with_a_bookmark_further_on(exam: Exam) -> None:
    made = await exam.gpu_node()
    await exam.pod(pod("vm"))
    events = exam.api.watch(
        GPU_NODES,
        resource_version=version(made),
        label_selector="nobody",
        timeout=exam.shortest_watch,
    )
    async with asyncio.timeout(HEARD_WITHIN_SECONDS):
        seen = [event async for event in events]

    assert {event.type for event in seen} == {EventType.BOOKMARK}
    versions = [int(event.resource_version) for event in seen]
    assert versions == sorted(versions)
    assert versions[0] == int(version(made))


async def test_a_watch_from_a_forgotten_version_is_gone(exam: Exam) -> None:
    await exam.gpu_node()
    exam.forget()
    events = exam.api.watch(GPU_NODES, resource_version="1")
    with pytest.raises(Gone):
        assert [event async for event in events] == []


async def test_a_reflector_follows(exam: Exam) -> None:
    made = await exam.gpu_node("a")
    async with contextlib.aclosing(
        reflect(exam.api, GPU_NODES, label_selector=exam.label)
    ) as all_changes:
        changes = (c async for c in all_changes if isinstance(c, Replaced | Upserted | Deleted))
        async with asyncio.timeout(HEARD_WITHIN_SECONDS):
            listed = await anext(changes)
            changed = await exam.patch({"spec": {"assignments": [assignment("x")]}}, name="a")
            upserted = await anext(changes)
            await exam.api.delete(GPU_NODES, exam.name("a"))
            deleted = await anext(changes)

    assert isinstance(listed, Replaced)
    assert [one.uid for one in listed.objects] == [made["metadata"]["uid"]]
    assert isinstance(upserted, Upserted)
    assert parsed(upserted.object.raw) == changed
    assert isinstance(deleted, Deleted)
    assert (deleted.object.name, deleted.object.namespace) == (exam.name("a"), "")
