"""The CustomResourceDefinition in manifests/ is the one that the types describe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from nodeagent.api import crd, gpunode
from tests.manifests.generate import ROOT, generated

VERSION = crd.definition()["spec"]["versions"][0]
SCHEMA = VERSION["schema"]["openAPIV3Schema"]


def within(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every schema in *schema* with its path, itself first."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from within(inner, f"{path}.{name}")
    if "items" in schema:
        yield from within(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from within(schema["additionalProperties"], f"{path}{{}}")


SCHEMAS = dict(within(SCHEMA))


@pytest.mark.parametrize("path", generated(), ids=lambda path: path.name)
def test_the_manifest_has_not_drifted_from_the_types(path: Path) -> None:
    assert path.read_text() == generated()[path], "stale: run `make crd`"


def test_kustomize_applies_every_manifest_beside_it() -> None:
    directory = ROOT / "manifests/base/crd"
    listed = yaml.safe_load((directory / "kustomization.yaml").read_text())["resources"]
    assert set(listed) == {p.name for p in directory.glob("*.yaml")} - {"kustomization.yaml"}


def test_every_schema_is_structural() -> None:
    for path, schema in SCHEMAS.items():
        assert "type" in schema, path
        assert not {"$ref", "anyOf", "oneOf", "allOf", "not", "default"} & set(schema), path


def test_everything_that_can_grow_is_bounded() -> None:
    for path, schema in SCHEMAS.items():
        match schema["type"]:
            case "array":
                assert schema["maxItems"] <= 256, path
                assert schema["x-kubernetes-list-type"] == "atomic", path
            case "string" if "enum" not in schema and path not in (".apiVersion", ".kind"):
                assert schema["maxLength"] <= 32768, path
            case "object" if "additionalProperties" in schema:
                assert schema["maxProperties"] <= 256, path


def test_a_field_is_required_exactly_where_its_type_has_no_default() -> None:
    assignment = SCHEMAS[".spec.assignments[]"]
    assert set(assignment["required"]) == {
        field.encode_name for field in msgspec.structs.fields(gpunode.Assignment) if field.required
    }
    assert "required" not in SCHEMAS[".spec"]
    assert "required" not in SCHEMAS[".status"]


def test_an_optional_value_may_be_null() -> None:
    assert SCHEMAS[".spec.assignments[].pod"]["nullable"]
    assert SCHEMAS[".status.geometries{}.profiles[].memoryMib"]["nullable"]


def test_modes_and_layouts_are_closed_choices() -> None:
    assert SCHEMAS[".status.mode"]["enum"] == list(gpunode.Mode)
    assert SCHEMAS[".status.gpus[].layout"]["enum"] == list(gpunode.Layout)


def test_the_longest_resource_name_of_kubernetes_fits() -> None:
    assert SCHEMAS[".spec.assignments[].resource"]["maxLength"] == 317


def test_every_column_shows_a_field_that_exists_or_a_condition() -> None:
    known = {*SCHEMAS, '.status.conditions[?(@.type=="Ready")].status'}
    known.add(".metadata.creationTimestamp")
    columns = {column["jsonPath"] for column in VERSION["additionalPrinterColumns"]}
    assert columns <= known


def test_descriptions_name_fields_as_json_does() -> None:
    assert "bootId changes with the node's boot" in SCHEMAS[".status"]["description"]
    assert not [path for path, schema in SCHEMAS.items() if "``" in schema.get("description", "")]
