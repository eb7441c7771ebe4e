"""JSON Patch (RFC 6902) and JSON merge patch (RFC 7386), as a kube-apiserver applies them.

Written here because what matters is how *its* library decides the edge cases, and because the twin
needs no more than the four operations Tangram uses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from nodeagent.apiserver.protocol import Body, Invalid

_INDEX = re.compile(r"0|[1-9][0-9]*")
_MISSING = object()


def json_patched(document: Any, patch: Sequence[Body]) -> Any:
    """Return *document* with every operation of *patch* applied; they share what did not change.

    Raises:
        Invalid: a ``test`` failed, or a path does not exist.
    """
    for operation in patch:
        document = _operated(document, operation)
    return document


def merge_patched(document: Any, patch: Any) -> Any:
    """Return *document* with the members of *patch* in place of its own; null removes one."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(document) if isinstance(document, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patched(merged.get(name), value)
    return merged


def same(one: Any, other: Any) -> bool:
    """Tell whether two JSON values are equal; unlike in Python, true is not 1."""
    if one is other:
        return True
    if isinstance(one, str):  # as most are; Python and JSON agree on these
        return bool(one == other)
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return False
        for name, member in one.items():  # most are the same objects
            if member is not (there := other[name]) and not same(member, there):
                return False
        return True
    return bool(one == other) and _canonical(one) == _canonical(other)


def pointer(path: str) -> tuple[str, ...]:
    """Split a JSON Pointer (RFC 6901) into its unescaped tokens."""
    if path and not path.startswith("/"):
        raise Invalid(422, f"a JSON Pointer begins with a slash: {path!r}")
    tokens = path.split("/")[1:]
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in tokens)


def _operated(document: Any, operation: Body) -> Any:
    op, path, value = operation.get("op"), str(operation.get("path", "")), operation.get("value")
    *parents, last = ("", *pointer(path))
    holder = {"": document}
    parent: Any = holder
    for token in parents:
        member = _member(parent, token)
        if member is _MISSING:
            raise Invalid(422, f"{op} operation does not apply: nothing is above {path}")
        if op != "test" and isinstance(member, dict | list):
            member = member.copy()
            parent[int(token) if isinstance(parent, list) else token] = member
        parent = member
    match op:
        case "test":
            _test(parent, last, value, path)
        case "add":
            _add(parent, last, value, path)
        case "replace" if isinstance(parent, dict):
            parent[last] = value  # a missing member is added here, though not in the RFC
        case "replace" | "remove" if _member(parent, last) is _MISSING:
            raise Invalid(422, f"{op} operation does not apply: nothing is at {path}")
        case "replace":
            parent[int(last)] = value
        case "remove":
            del parent[int(last) if isinstance(parent, list) else last]
        case _:
            raise Invalid(422, f"no such JSON Patch operation here: {op!r}")
    return holder.get("")


def _test(parent: Any, token: str, value: Any, path: str) -> None:
    found = _member(parent, token)
    # A missing member equals null for kube-apiserver's library, though not in the RFC.
    if not same(None if found is _MISSING else found, value):
        raise Invalid(422, f"testing value {path} failed: test failed")


def _add(parent: Any, token: str, value: Any, path: str) -> None:
    if isinstance(parent, dict):
        parent[token] = value
    elif isinstance(parent, list) and token == "-":
        parent.append(value)
    elif isinstance(parent, list) and _INDEX.fullmatch(token) and int(token) <= len(parent):
        parent.insert(int(token), value)
    else:
        raise Invalid(422, f"add operation does not apply: no place for {path}")


def _member(parent: Any, token: str) -> Any:
    if isinstance(parent, dict):
        return parent.get(token, _MISSING)
    if isinstance(parent, list) and _INDEX.fullmatch(token) and int(token) < len(parent):
        return parent[int(token)]
    return _MISSING


def _canonical(value: Any) -> bytes:
    return msgspec.json.encode(value, order="sorted")
