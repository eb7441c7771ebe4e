"""JSON Patch and merge patch by their laws; their edge cases are in the exam."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.apiserver.patches import json_patched, merge_patched, pointer, same
from nodeagent.apiserver.protocol import Invalid

scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab/~0 1", max_size=3)
names = st.text("ab/~01-", max_size=3)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(names, values, max_size=4)


def path(*tokens: str | int) -> str:
    return "".join(f"/{str(t).replace('~', '~0').replace('/', '~1')}" for t in tokens)


def places(document: Any, *above: str | int) -> list[tuple[str | int, ...]]:
    """List every place in *document*, from the root down."""
    if isinstance(document, dict):
        members = list(document.items())
    elif isinstance(document, list):
        members = list(enumerate(document))
    else:
        members = []
    return [above, *(place for key, value in members for place in places(value, *above, key))]


def at(document: Any, place: tuple[str | int, ...]) -> Any:
    for key in place:
        document = document[key]
    return document


@given(objects, st.data())
def test_what_is_there_passes_its_test_and_nothing_else_does(
    document: dict[str, Any], data: st.DataObject
) -> None:
    place = data.draw(st.sampled_from(places(document)))
    value = data.draw(values)
    test = {"op": "test", "path": path(*place), "value": value}
    if same(at(document, place), value):
        assert json_patched(copy.deepcopy(document), [test]) == document
    else:
        with pytest.raises(Invalid):
            json_patched(copy.deepcopy(document), [test])


@given(objects, values, st.data())
def test_what_was_replaced_is_there_and_all_else_is_as_it_was(
    document: dict[str, Any], value: Any, data: st.DataObject
) -> None:
    place = data.draw(st.sampled_from(places(document)))
    before = at(document, place)
    replace = {"op": "replace", "path": path(*place), "value": value}
    back = {"op": "replace", "path": path(*place), "value": before}

    patched = json_patched(copy.deepcopy(document), [replace])
    assert same(at(patched, place), value)
    assert json_patched(patched, [back]) == document


@given(objects, names, values)
def test_a_removal_undoes_an_addition(document: dict[str, Any], name: str, value: Any) -> None:
    document.pop(name, None)
    add = {"op": "add", "path": path(name), "value": value}
    remove = {"op": "remove", "path": path(name)}
    assert json_patched(copy.deepcopy(document), [add, remove]) == document


@given(st.lists(scalars, max_size=4), values, st.data())
def test_an_element_is_added_before_its_index_or_at_the_end(
    elements: list[Any], value: Any, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(elements)))
    inserted = json_patched(
        {"list": elements.copy()}, [{"op": "add", "path": path("list", index), "value": value}]
    )
    appended = json_patched(
        {"list": elements.copy()}, [{"op": "add", "path": "/list/-", "value": value}]
    )
    assert inserted == {"list": [*elements[:index], value, *elements[index:]]}
    assert appended == {"list": [*elements, value]}


@pytest.mark.parametrize("index", ["-1", "01", "1e0", "+1", "", "-"])
def test_an_index_is_plain_digits(index: str) -> None:
    with pytest.raises(Invalid):
        json_patched({"list": [1, 2]}, [{"op": "replace", "path": f"/list/{index}", "value": 3}])


@pytest.mark.parametrize(
    "operation",
    [{"op": "frob", "path": "/a"}, {"path": "/a"}, {"op": "test", "path": "a", "value": 1}],
)
def test_what_is_no_operation_is_invalid(operation: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        json_patched({"a": 1}, [operation])


def test_the_whole_document_can_be_replaced() -> None:
    assert json_patched({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}]) == {"b": 2}


@given(st.lists(names, max_size=4))
def test_a_pointer_is_read_as_it_was_written(tokens: list[str]) -> None:
    assert list(pointer(path(*tokens))) == tokens


def test_true_is_not_one() -> None:
    assert not same(True, 1)
    assert not same({"a": [False]}, {"a": [0]})
    assert same({"a": 1, "b": 2}, {"b": 2, "a": 1})


@given(objects, objects)
def test_a_merge_patch_given_twice_does_what_it_does_once(
    document: dict[str, Any], patch: dict[str, Any]
) -> None:
    once = merge_patched(document, patch)
    assert merge_patched(once, patch) == once


@given(objects, objects)
def test_a_merge_patch_leaves_alone_what_it_does_not_name(
    document: dict[str, Any], patch: dict[str, Any]
) -> None:
    before = copy.deepcopy(document)
    merged = merge_patched(document, patch)

    assert document == before
    for name in document.keys() - patch.keys():
        assert merged[name] == document[name]
    assert not any(name in merged for name, value in patch.items() if value is None)


def test_a_merge_patch_follows_the_examples_of_its_rfc() -> None:
    assert merge_patched({"a": "b"}, {"a": "c"}) == {"a": "c"}
    assert merge_patched({"a": [{"b": "c"}]}, {"a": [1]}) == {"a": [1]}
    assert merge_patched({"e": None}, {"a": 1}) == {"e": None, "a": 1}
    assert merge_patched([1, 2], {"a": "b", "c": None}) == {"a": "b"}
    assert merge_patched({}, {"a": {"bb": {"ccc": None}}}) == {"a": {"bb": {}}}
    assert merge_patched({"a": "foo"}, "bar") == "bar"
