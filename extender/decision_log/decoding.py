"""From lines back to calls, by what the told methods take."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any, get_type_hints

import msgspec

from extender.decision_log.layout import Entry, LogUnreadable, Restating
from extender.decision_log.promises import Changes
from extender.service.knowledge import PROMISES
from extender.service.seam import method_of


def arguments(entry: Entry | Restating) -> dict[str, Any]:
    """Return what a method was called with, by its parameters' names.

    Raises:
        LogUnreadable: there is no such method, or it takes something else.
    """
    try:
        found = msgspec.convert(entry.given, _shape(entry.call))
    except (msgspec.ValidationError, KeyError) as error:
        raise LogUnreadable(f"call {entry.n}, {entry.call}: {error}") from error
    return {name: getattr(found, name) for name in found.__struct_fields__}


@cache
def _shape(call: str) -> type[msgspec.Struct]:
    """Return what holds the arguments of a call."""
    if call == PROMISES:
        return msgspec.defstruct("Promises", [("changes", Changes)])
    method = method_of(call)
    types: Mapping[str, Any] = get_type_hints(method)
    fields = [
        (each.name, types[each.name])
        if each.default is inspect.Parameter.empty
        else (each.name, types[each.name], each.default)
        for each in tuple(inspect.signature(method).parameters.values())[1:]
    ]
    return msgspec.defstruct(call.replace(".", "_"), fields, kw_only=True)
