"""What is done to right requests: to the values in them, and to the bytes they become."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

_STRINGS = (
    "",
    "\x00",
    "a\x00b",
    "../../nodes",
    "/" * 300,
    "x" * 20_000,
    "\u202e\U0001f9e9",
    "%s%n{}",
    "node-1\n",
    "A" * 253,
    "\ud800",
    "1" * 400,
)
_NUMBERS = (0, -1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400, 1e308, 1.5, -0.0)
_JUNK: tuple[Any, ...] = (None, True, [], {}, [[]], [None], {"": None}, *_STRINGS, *_NUMBERS)


Change = Callable[[random.Random, Any], Any]
"""What is done to a value."""

Damage = Callable[[random.Random, bytes], bytes]
"""What is done to bytes."""


def anywhere(chance: random.Random, value: Any, change: Change) -> Any:
    """Change something somewhere in *value*: at each level, go on down or change what is there."""
    if isinstance(value, dict) and value and chance.random() < 0.85:
        key = chance.choice(tuple(value))
        changed = dict(value)
        if chance.random() < 0.1:
            del changed[key]
        elif chance.random() < 0.1:
            changed[_other_key(chance, key)] = changed.pop(key)
        else:
            changed[key] = anywhere(chance, value[key], change)
        return changed
    if isinstance(value, list) and value and chance.random() < 0.8:
        at = chance.randrange(len(value))
        return [*value[:at], anywhere(chance, value[at], change), *value[at + 1 :]]
    return change(chance, value)


def _other_key(chance: random.Random, key: str) -> str:
    return chance.choice((key.lower(), key.upper(), key + " ", "", "\x00", "k" * 5000))


def _junk(chance: random.Random, _: Any) -> Any:
    return chance.choice(_JUNK)


def _deep(chance: random.Random, value: Any) -> Any:
    for _ in range(chance.choice((1, 10, 300))):
        value = [value] if chance.random() < 0.5 else {"a": value}
    return value


def _longer(chance: random.Random, value: Any) -> Any:
    match value:
        case str():
            return value * chance.choice((2, 100))
        case list():
            return value * min(chance.choice((2, 100)), 1 + 5_000 // (len(value) + 1))
        case dict():
            return value | {f"k{n}": n for n in range(chance.choice((1, 1000)))}
        case _:
            return [value] * chance.choice((2, 1000))


CHANGES: Sequence[Change] = (_junk, _junk, _junk, _deep, _longer)
"""To be drawn without putting back: twice longer would be gigabytes."""


def written(chance: random.Random, value: Any) -> bytes:
    """Write JSON, sometimes with a key twice, and lone surrogates as they are."""
    text = json.dumps(value, ensure_ascii=chance.random() < 0.5, separators=(",", ":"))
    if chance.random() < 0.1 and text.startswith("{") and len(text) > 2:
        text = text[:-1] + "," + text[1:-1] + "}"
    return text.encode("utf-8", "surrogatepass")


def _truncated(chance: random.Random, data: bytes) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _flipped(chance: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 3, 30)) if data else 0):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _inserted(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.choice(_FRAGMENTS) + data[at:]


def _repeated(chance: random.Random, data: bytes) -> bytes:
    start, end = sorted(chance.randrange(len(data) + 1) for _ in range(2))
    return data[:end] + data[start:end] * chance.choice((1, 10)) + data[end:]


_FRAGMENTS = (
    *(b"\x00", b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\r\n\r\n", b'"'),
    *(
        b"[" * 5000,
        b'{"a":' * 5000,
        b"1e999",
        b"-",
        b"NaN",
        b"Infinity",
        b"9" * 5000,
        b"/*",
        b"\\u",
    ),
)
DAMAGES: Sequence[Damage] = (_truncated, _flipped, _inserted, _repeated)
"""Every kind of damage to bytes."""
