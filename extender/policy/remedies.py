"""What to write instead of a value that a document may not have: in words, as its shape has it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from msgspec import inspect


def remedy(raw: object, shape: Any) -> str:
    """Return what to write where *raw* (YAML's or JSON's value) is to be of a *shape*."""
    kind = inspect.type_info(shape)
    choices = [str(each) for each in _choices(kind) if each != ""]
    if choices:
        if close := difflib.get_close_matches(str(raw), choices, n=1):
            return f"did you mean {close[0]}?"
        listed = " or ".join(choices) if len(choices) < 3 else f"one of {', '.join(choices)}"
        return f"use {listed}"
    if _bare(kind) == inspect.StrType and not isinstance(raw, str):
        return "put it in quotes"
    return f"write {' or '.join(_named(kind))}"


def _bare(kind: inspect.Type) -> type:
    return type(kind.type if isinstance(kind, inspect.Metadata) else kind)


def _alternatives(kind: inspect.Type) -> Iterator[inspect.Type]:
    for each in kind.types if isinstance(kind, inspect.UnionType) else (kind,):
        if not isinstance(each, inspect.NoneType):  # who means that leaves the field out
            yield each


def _choices(kind: inspect.Type) -> Iterator[object]:
    """Yield the only values that will do, where there are such and nothing else will."""
    values: list[object] = []
    for each in _alternatives(kind):
        if isinstance(each, inspect.LiteralType):
            values += each.values
        elif isinstance(each, inspect.EnumType):
            values += [member.value for member in each.cls]
        else:
            return
    yield from values


def _named(kind: inspect.Type) -> Iterator[str]:
    for each in _alternatives(kind):
        match each:
            case inspect.Metadata(extra_json_schema={"description": str(described)}):
                yield described
            case inspect.Metadata(type=bare):
                yield from _named(bare)
            case inspect.IntType():
                yield f"a whole number{_within(each)}"
            case inspect.FloatType():
                yield f"a number{_within(each)}"
            case inspect.BoolType():
                yield "true or false"
            case inspect.StrType():
                yield "text in quotes"
            case inspect.VarTupleType() | inspect.ListType():
                yield "a list: a line that begins with `- ` for each entry, or [] for none"
            case inspect.DictType() | inspect.StructType():
                yield "`name: value` lines, or {} for none"
            case inspect.LiteralType(values=values):
                yield from (str(value) for value in values if value != "")
            case _:
                raise TypeError(f"no policy file has values of {each}")


def _within(number: inspect.IntType | inspect.FloatType) -> str:
    least, most = number.ge, number.le
    if least is not None and most is not None:
        return f" from {_shown(least)} to {_shown(most)}"
    parts = []
    if number.gt is not None:
        parts.append(f"above {_shown(number.gt)}")
    if least is not None:
        parts.append(f"from {_shown(least)}")
    if number.lt is not None:
        parts.append(f"below {_shown(number.lt)}")
    if most is not None:
        parts.append(f"up to {_shown(most)}")
    return f" {' and '.join(parts)}" if parts else ""


def _shown(bound: float) -> str:
    return f"{bound:,.0f}" if float(bound).is_integer() else f"{bound:g}"
