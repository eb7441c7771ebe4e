"""Reading a document strictly: everything that is wrong with it, not the first thing only."""

from __future__ import annotations

import difflib
import reprlib
import types
import typing
from collections.abc import Iterator
from typing import Any

import msgspec
import yaml

from extender.policy.remedies import remedy


class Problem(msgspec.Struct, frozen=True):
    """What is wrong at a *path*, such as ``$.tenants[0].caps``, and what to do about it.

    The path is "" for what is wrong with the document itself.
    """

    path: str
    text: str
    remedy: str

    def __str__(self) -> str:
        where = f"{_cut(self.path)}: " if self.path else ""
        return f"{where}{_cut(self.text)}; {_cut(self.remedy)}"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


LONGEST = 400
"""Characters of each part of a message: what is quoted may be of any length."""


def problems(raw: object, shape: Any, path: str = "$") -> Iterator[Problem]:
    """Yield all that keeps *raw* (YAML's or JSON's values) from being a *shape*."""
    shape = _expected(shape, raw)
    if _is_struct(shape):
        yield from _of_fields(raw, shape, path)
    elif typing.get_origin(shape) is tuple and isinstance(raw, list):
        for at, each in enumerate(raw):
            yield from problems(each, typing.get_args(shape)[0], f"{path}[{at}]")
    elif typing.get_origin(shape) is dict and isinstance(raw, dict):
        key_shape, value_shape = typing.get_args(shape)
        for key, each in raw.items():
            yield from _of_value(key, key_shape, f"{path}.{key}")
            yield from problems(each, value_shape, f"{path}.{key}")
    else:
        yield from _of_value(raw, shape, path)


def _of_fields(raw: object, shape: Any, path: str) -> Iterator[Problem]:
    if not isinstance(raw, dict):
        yield Problem(path, f"expected fields, got {_shown(raw)}", "write `name: value` lines")
        return
    fields = {field.encode_name: field for field in msgspec.structs.fields(shape)}
    for key in raw:
        if key not in fields:
            close = difflib.get_close_matches(str(key), fields, n=1)
            instead = f"did you mean {close[0]}?" if close else f"use one of {', '.join(fields)}"
            yield Problem(f"{path}.{key}", f"unknown field `{key}`", instead)
    for name, field in fields.items():
        if name in raw:
            yield from problems(raw[name], field.type, f"{path}.{name}")
        elif field.required:
            yield Problem(f"{path}.{name}", "is missing", "add it")


def _of_value(raw: object, shape: Any, path: str) -> Iterator[Problem]:
    try:
        msgspec.convert(raw, shape)
    except msgspec.ValidationError:
        yield Problem(path, f"got {_shown(raw)}", remedy(raw, shape))


def _expected(shape: Any, raw: object) -> Any:
    """Return what *raw* is to be, of what it may be: the struct, unless it is null."""
    if isinstance(shape, types.UnionType) or typing.get_origin(shape) is typing.Union:
        structs = [each for each in typing.get_args(shape) if _is_struct(each)]
        if len(structs) == 1 and raw is not None:
            return structs[0]
    return shape


def _is_struct(shape: Any) -> bool:
    return isinstance(shape, type) and issubclass(shape, msgspec.Struct)


def _shown(raw: object) -> str:
    text = _SHORT.repr(raw)
    return f"`{text}`" if len(text) <= 60 else f"`{text[:57]}...`"


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60

DEEPEST = 32
"""Levels within each other: a policy has six, and readers of YAML recurse as deep as it goes."""

MOST_PARTS = 100_000
"""Values, lists and mappings: thousands of tenants."""


def excessive(content: bytes) -> Problem | None:
    """Return what would keep the reading of YAML *content* from ending well, if anything would.

    A RecursionError within the reader's C code leaves the interpreter in disorder; a few aliases
    of aliases stand for more than any memory holds.
    """
    depth = 0
    for count, event in enumerate(yaml.parse(content, Loader=yaml.SafeLoader)):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.AliasEvent):
            line = "" if event.start_mark is None else f" in line {event.start_mark.line + 1}"
            return Problem("", f"has an alias{line}, *{event.anchor}", "write it out")
        if depth > DEEPEST:
            text = f"is nested more than {DEEPEST} levels deep"
            return Problem("", text, "no policy has more than six")
        if count > MOST_PARTS:
            return Problem("", f"has more than {MOST_PARTS} values", "leave out what is not needed")
    return None


def repeated(content: bytes) -> Iterator[Problem]:
    """Yield the fields that YAML *content* has twice: all but the last would be lost silently."""
    root = yaml.compose(content, Loader=yaml.SafeLoader)
    yield from _repeated(root, "$")


def _repeated(node: yaml.Node | None, path: str) -> Iterator[Problem]:
    if isinstance(node, yaml.SequenceNode):
        for at, each in enumerate(node.value):
            yield from _repeated(each, f"{path}[{at}]")
    elif isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in keys:
                text = f"is there twice, again in line {key.start_mark.line + 1}"
                yield Problem(f"{path}.{name}", text, "keep one of the two")
            keys.add(name)
            yield from _repeated(value, f"{path}.{name}")
