"""Lists: pages of one moment, and what selectors select."""

from __future__ import annotations

from typing import Any

import pytest

from nodeagent.apiserver.protocol import GPU_NODES, PODS, Refused
from tests.contracts.apiserver.exam import Exam, assignment, names, parsed, pod


async def test_pages_show_one_moment_whatever_happens_between_them(exam: Exam) -> None:
    made = [await exam.gpu_node(name) for name in "abcde"]
    page = await exam.api.list(GPU_NODES, label_selector=exam.label, limit=2)
    first = page.resource_version

    await exam.api.delete(GPU_NODES, exam.name("d"))
    await exam.gpu_node("aa")
    await exam.patch({"spec": {"assignments": [assignment("x")]}}, name="c")
    await exam.patch({"metadata": {"labels": None}}, name="c")

    seen = list(page.items)
    while page.continue_token:
        page = await exam.api.list(
            GPU_NODES, label_selector=exam.label, limit=2, continue_token=page.continue_token
        )
        assert page.resource_version == first
        seen += page.items
    assert [parsed(raw) for raw in seen] == made


async def test_a_list_that_fits_one_page_has_no_next(exam: Exam) -> None:
    await exam.pod(pod("a"))
    await exam.pod(pod("b"))
    page = await exam.api.list(PODS, namespace=exam.ours, limit=2)

    assert (len(page.items), page.continue_token) == (2, "")


async def test_a_page_is_continued_even_where_nothing_selected_follows(exam: Exam) -> None:
    await exam.pod(pod("a", labels={"tier": "gold"}))
    await exam.pod(pod("b"))
    page = await exam.api.list(PODS, namespace=exam.ours, label_selector="tier", limit=1)
    assert names(page.items) == ["a"]

    token = page.continue_token
    page = await exam.api.list(
        PODS, namespace=exam.ours, label_selector="tier", limit=1, continue_token=token
    )
    assert (names(page.items), page.continue_token) == ([], "")


async def test_an_empty_list_has_a_version_to_watch_from(exam: Exam) -> None:
    page = await exam.api.list(GPU_NODES, label_selector=exam.label)
    assert (list(page.items), page.continue_token) == ([], "")
    assert int(page.resource_version) > 0


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ("", "abc"),
        ("tier", "ab"),
        ("!tier", "c"),
        ("tier=gold", "a"),
        ("tier==gold", "a"),
        ("tier!=gold", "bc"),
        ("tier in (gold, silver)", "ab"),
        ("tier notin (gold)", "bc"),
        ("tier,tier!=gold", "b"),
        ("tier in (gold,silver),!other", "ab"),
        ("tier=", ""),
    ],
)
async def test_label_selectors(exam: Exam, selector: str, selected: str) -> None:
    await exam.pod(pod("a", labels={"tier": "gold"}))
    await exam.pod(pod("b", labels={"tier": "silver"}))
    await exam.pod(pod("c"))

    page = await exam.api.list(PODS, namespace=exam.ours, label_selector=selector)
    assert names(page.items) == list(selected)


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ("metadata.name=a", "a"),
        ("metadata.name!=a", "b"),
        ("spec.nodeName=here", "b"),
        ("spec.nodeName=", "a"),
        ("status.phase=Pending,spec.nodeName==here", "b"),
        ("status.phase!=Pending", ""),
    ],
)
async def test_field_selectors(exam: Exam, selector: str, selected: str) -> None:
    await exam.pod(pod("a"))
    await exam.pod(pod("b", nodeName="here"))

    page = await exam.api.list(PODS, namespace=exam.ours, field_selector=selector)
    assert names(page.items) == list(selected)


async def test_a_namespace_is_a_selection_too(exam: Exam) -> None:
    await exam.pod(pod("a", labels={"exam": exam.ours}))

    everywhere = await exam.api.list(PODS, label_selector=exam.label)
    assert names(everywhere.items) == ["a"]
    elsewhere = await exam.api.list(PODS, namespace="default", label_selector=exam.label)
    assert names(elsewhere.items) == []


@pytest.mark.parametrize(
    "selection",
    [
        {"label_selector": "a b"},
        {"label_selector": "a in b"},
        {"field_selector": "spec.color=red"},
        {"field_selector": "metadata.name"},
        {"continue_token": "nonsense"},
    ],
)
async def test_a_selection_that_makes_no_sense_is_refused(
    exam: Exam, selection: dict[str, Any]
) -> None:
    with pytest.raises(Refused) as refused:
        await exam.api.list(GPU_NODES, **selection)
    assert refused.value.status == 400
