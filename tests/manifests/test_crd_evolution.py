"""Objects that the previous definition took are taken by this one, and mean the same."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import yaml

from nodeagent.api import crd

PREVIOUS = Path(__file__).parent / "previous/gpunodes.yaml"

Schema = dict[str, Any]
UPPER = ("maxItems", "maxLength", "maxProperties", "maximum")


def version(definition: Schema) -> Schema:
    (only,) = definition["spec"]["versions"]
    found: Schema = only
    return found


def lost(before: Schema, after: Schema, path: str = "") -> Iterator[str]:
    """Yield what *before* takes and *after* does not."""
    if before["type"] != after["type"]:
        yield f"{path}: was {before['type']}, is {after['type']}"
    for bound in UPPER:
        if after.get(bound, float("inf")) < before.get(bound, float("inf")):
            yield f"{path}: {bound} has fallen"
    if after.get("minimum", float("-inf")) > before.get("minimum", float("-inf")):
        yield f"{path}: minimum has risen"
    if before.get("nullable") and not after.get("nullable"):
        yield f"{path}: may be null no more"
    choices: Collection[Any] = before.get("enum", ())
    gone = set(choices) - set(after.get("enum", choices))
    if gone or ("enum" in after and "enum" not in before):
        yield f"{path}: no more among its choices: {gone}"
    if new := set(after.get("required", ())) - set(before.get("required", ())):
        yield f"{path}: required since: {new}"
    for inner in ("items", "additionalProperties"):
        if inner in before:
            yield from lost(before[inner], after[inner], f"{path}[]")
    for name, schema in before.get("properties", {}).items():
        if name in after["properties"]:
            yield from lost(schema, after["properties"][name], f"{path}.{name}")
        else:
            yield f"{path}.{name}: is gone, and would be pruned"


def schema(definition: Schema) -> Schema:
    found: Schema = version(definition)["schema"]["openAPIV3Schema"]
    return found


def previous() -> Schema:
    found: Schema = yaml.safe_load(PREVIOUS.read_text())
    return found


def test_whatever_was_taken_before_is_taken_now() -> None:
    assert list(lost(schema(previous()), schema(crd.definition()))) == []


def test_the_name_of_the_version_and_its_subresources_stay() -> None:
    before, after = version(previous()), version(crd.definition())

    for field in ("name", "served", "storage", "subresources"):
        assert before[field] == after[field]
    assert previous()["metadata"] == crd.definition()["metadata"]


def test_a_definition_that_takes_less_is_noticed() -> None:
    now = schema(crd.definition())
    assignment = now["properties"]["spec"]["properties"]["assignments"]["items"]
    assignment["required"] = [*assignment["required"], "seat"]
    assignment["properties"]["resource"]["maxLength"] = 10
    del assignment["properties"]["owner"]
    now["properties"]["status"]["properties"]["mode"]["enum"].remove("container")

    found = list(lost(schema(previous()), now))

    at = ".spec.assignments[]"
    assert found == [
        f"{at}: required since: {{'seat'}}",
        f"{at}.resource: maxLength has fallen",
        f"{at}.owner: is gone, and would be pruned",
        ".status.mode: no more among its choices: {'container'}",
    ]
