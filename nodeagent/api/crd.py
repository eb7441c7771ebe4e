"""The CustomResourceDefinition of GpuNode, its schema read off the types.

The API server judges shape and bounds; what follows from the values, the types' owners judge. No
field has a default here: an absent one means what the types say it means.
"""

from __future__ import annotations

import inspect
import re
from enum import EnumType
from typing import Any

import msgspec
from msgspec import inspect as types

from nodeagent.api import keys
from nodeagent.api.gpunode import GpuNode, Inventory, Plan

Schema = dict[str, Any]

# A node's worth with room to spare: no board carries more than 16 GPUs, no GPU has more than 16
# memory slices, no driver lists more than 50 vGPU types.
MOST = {
    "assignments": 256,
    "conditions": 16,
    "failed": 256,
    "geometries": 32,
    "gpus": 32,
    "instances": 64,
    "keepers": 8,
    "profiles": 64,
    "realized": 256,
    "resources": 256,
    "rivals": 256,
    "starts": 16,
    "vgpuTypes": 32,
    "vgpuTypes[]": 256,
}
"""How many entries a list or map may have, by its name."""

LONGEST = {
    "message": 32768,  # as in every condition of Kubernetes
    "name": 253,
    "namespace": 63,
    "reason": 1024,
    "resource": 253 + 1 + 63,  # a qualified name: prefix, slash, name
    "resources[]": 253 + 1 + 63,
    "rivals[]": 253 + 1 + 63,
    "unhealthy": 1024,
}
"""How long a string may be, by its name; any other at most :data:`LONG`."""

LONG = 128

COLUMNS = (
    ("GPUs", "integer", ".status.summary.gpus"),
    ("Free slices", "integer", ".status.summary.freeSlices"),
    ("Largest placeable", "string", ".status.summary.largestPlaceable"),
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
    ("Age", "date", ".metadata.creationTimestamp"),
)


def definition() -> Schema:
    """Return the CustomResourceDefinition as apiextensions.k8s.io/v1 has it."""
    singular = keys.GPU_NODE_KIND.lower()
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{keys.GPU_NODE_PLURAL}.{keys.GROUP}"},
        "spec": {
            "group": keys.GROUP,
            "scope": "Cluster",
            "names": {
                "kind": keys.GPU_NODE_KIND,
                "listKind": f"{keys.GPU_NODE_KIND}List",
                "plural": keys.GPU_NODE_PLURAL,
                "singular": singular,
                "shortNames": ["gn"],
            },
            "versions": [
                {
                    "name": keys.VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {"name": name, "type": type_, "jsonPath": path}
                        for name, type_, path in COLUMNS
                    ],
                    "schema": {"openAPIV3Schema": _gpu_node()},
                }
            ],
        },
    }


def _gpu_node() -> Schema:
    return {
        "type": "object",
        "description": _said(GpuNode),
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": _atom(_schema("spec", types.type_info(Plan))),
            "status": _atom(_schema("status", types.type_info(Inventory))),
        },
    }


def _atom(schema: Schema) -> Schema:
    """Return the schema of an object with one writer: it is one entry in managedFields."""
    return {**schema, "x-kubernetes-map-type": "atomic"}


def _schema(name: str, type_: types.Type) -> Schema:
    """Return the structural schema of the value that is called *name* in its object."""
    match type_:
        case types.StructType(cls=cls, fields=fields):
            required = [field.encode_name for field in fields if field.required]
            return {
                "type": "object",
                "description": _said(cls),
                **({"required": required} if required else {}),
                "properties": {f.encode_name: _schema(f.encode_name, f.type) for f in fields},
            }
        case types.VarTupleType(item_type=item):
            return {
                "type": "array",
                "maxItems": MOST[name],
                "x-kubernetes-list-type": "atomic",
                "items": _schema(f"{name}[]", item),
            }
        case types.DictType(value_type=value):
            return {
                "type": "object",
                "maxProperties": MOST[name],
                "additionalProperties": _schema(f"{name}[]", value),
            }
        case types.UnionType(types=(some, types.NoneType())):
            return {**_schema(name, some), "nullable": True}
        case types.EnumType(cls=cls):
            return {"type": "string", "description": _said(cls), "enum": [str(it) for it in cls]}
        case types.StrType():
            return {"type": "string", "maxLength": LONGEST.get(name, LONG)}
        case types.IntType(ge=least, le=most, lt=beyond):
            highest = most if beyond is None else beyond - 1
            bounds = {"minimum": least, "maximum": highest}
            return {
                "type": "integer",
                "format": "int64",
                **{word: bound for word, bound in bounds.items() if bound is not None},
            }
        case types.BoolType():
            return {"type": "boolean"}
        case _:
            raise NotImplementedError(f"{name}: no schema for {type_}")


def _said(cls: type[msgspec.Struct] | EnumType) -> str:
    """Return the docstring of *cls* as one line, with fields named as JSON names them."""
    words = " ".join(inspect.cleandoc(cls.__doc__ or "").split())
    return re.sub(r"``(.*?)``", lambda quoted: _camel(quoted[1]), words)


def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda letter: letter[1].upper(), name)
