"""Requests as kube-scheduler sends them, and then not quite.

Everything is drawn from one :class:`random.Random`: a seed gives the same requests again.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tests.builders import VGPU, raw_pod

NODES = ("node-1", "node-2", "node-3", "nowhere")
PODS = tuple((f"vm-{n}", f"uid-{n}") for n in range(8))
WANTED = ("1-10C", "1-20C", "2-20C", "3-40C", "4-40C", "7-80C", "9-99C")
VERBS = ("filter", "prioritize", "preempt", "bind")


class Hostile(NamedTuple):
    """What goes over the wire; ``intact`` if it is HTTP, so that an answer is owed."""

    verb: str
    sent: bytes
    intact: bool = True


def hostile(chance: random.Random) -> Hostile:
    """Draw one request: in one of five the JSON is right and only what it says is hostile."""
    verb = chance.choice(VERBS)
    whole = _REQUESTS[verb](chance)
    for change in chance.sample(_CHANGES, chance.choice((0, 1, 1, 2, 4))):
        whole = _anywhere(chance, whole, change)
    body = _written(chance, whole)
    if chance.random() < 0.3:
        body = chance.choice(_BYTES)(chance, body)
    headers = ["Host: hooks", "Content-Type: application/json", "Accept-Encoding: gzip"]
    if chance.random() < 0.05:
        headers.append(f"Content-Encoding: {chance.choice(('gzip', 'deflate', 'br', 'x'))}")
        body = zlib.compress(bytes(1_000_000))
    if chance.random() < 0.05:
        headers.append(chance.choice(_HEADERS))
    headers.append(f"Content-Length: {len(body)}")
    head = "\r\n".join((f"POST /{verb} HTTP/1.1", *headers)).encode() + b"\r\n\r\n"
    if chance.random() < 0.05:
        return Hostile(verb, chance.choice(_BYTES)(chance, head) + body, intact=False)
    return Hostile(verb, head + body)


# Requests whose JSON is right.


def _pod(chance: random.Random) -> dict[str, Any]:
    name, uid = chance.choice(PODS)
    pod = raw_pod(*chance.choices(WANTED, k=chance.randrange(3)), name=name, uid=uid)
    if chance.random() < 0.3:
        pod["spec"]["containers"] = _containers(chance)
    if chance.random() < 0.1:
        pod["spec"]["initContainers"] = _containers(chance)
    if chance.random() < 0.2:
        pod["spec"]["volumes"] = [{"persistentVolumeClaim": {"claimName": "c"}}]
    if chance.random() < 0.2:
        owner = {"kind": "K" * chance.choice((1, 200)), "name": "vmi", "controller": True}
        pod["metadata"]["ownerReferences"] = [owner] * chance.choice((1, 2, 50))
    return pod


def _containers(chance: random.Random) -> list[dict[str, Any]]:
    many = 3000 if chance.random() < 0.03 else chance.choice((0, 1, 3, 40))
    policies = chance.choice((["Always"], [None], ["Always", None]))
    return [
        {
            "resources": {chance.choice(("requests", "limits")): _amounts(chance, n)},
            "restartPolicy": chance.choice(policies),
        }
        for n in range(many)
    ]


def _amounts(chance: random.Random, n: int) -> dict[str, Any]:
    resource = chance.choice(
        (VGPU + "1-10C", f"{VGPU}1-{n}C", "nvidia.com/mig-1g.10gb", "cpu", f"x.example/{n}")
    )
    return {resource: chance.choice((1, "1", 0, "2k", *_QUANTITIES))}


def _nodes(chance: random.Random) -> dict[str, Any]:
    names = chance.choices(NODES, k=chance.choice((0, 1, 3, 50)))
    if chance.random() < 0.005:
        names = [f"n{n}" for n in range(20_000)]
    if chance.random() < 0.7:
        return {"Nodes": None, "NodeNames": names}
    items = [{"metadata": {"name": name}, "spec": {"x": "y" * 100}} for name in names]
    return {"Nodes": {"metadata": {}, "items": items}, "NodeNames": None}


def _candidates(chance: random.Random) -> dict[str, Any]:
    return {"Pod": _pod(chance), **_nodes(chance)}


def _preemption(chance: random.Random) -> dict[str, Any]:
    victims = [{"UID": uid} for _, uid in chance.choices(PODS, k=chance.choice((0, 1, 30)))]
    meta = {
        name: {"Pods": victims, "NumPDBViolations": chance.choice((0, 1, -1))}
        for name in chance.choices(NODES, k=chance.randrange(4))
    }
    return {"Pod": _pod(chance), "NodeNameToVictims": None, "NodeNameToMetaVictims": meta}


def _binding(chance: random.Random) -> dict[str, Any]:
    name, uid = chance.choice(PODS)
    return {
        "PodName": name,
        "PodNamespace": chance.choice(("default", "elsewhere")),
        "PodUID": uid,
        "Node": chance.choice(NODES),
    }


_REQUESTS: dict[str, Callable[[random.Random], Any]] = {
    "filter": _candidates,
    "prioritize": _candidates,
    "preempt": _preemption,
    "bind": _binding,
}


# What is done to values.

_QUANTITIES = ("1e99", "9" * 18 + "Ti", "1.5", "-1", "", " 1", "0x1", "1" * 5000, 1e308, -5, 1.5)
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


def _anywhere(chance: random.Random, value: Any, change: Change) -> Any:
    """Change something somewhere in *value*: at each level, go on down or change what is there."""
    if isinstance(value, dict) and value and chance.random() < 0.85:
        key = chance.choice(tuple(value))
        changed = dict(value)
        if chance.random() < 0.1:
            del changed[key]
        elif chance.random() < 0.1:
            changed[_other_key(chance, key)] = changed.pop(key)
        else:
            changed[key] = _anywhere(chance, value[key], change)
        return changed
    if isinstance(value, list) and value and chance.random() < 0.8:
        at = chance.randrange(len(value))
        return [*value[:at], _anywhere(chance, value[at], change), *value[at + 1 :]]
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


# Drawn without putting back: twice longer would be gigabytes.
_CHANGES: Sequence[Change] = (_junk, _junk, _junk, _deep, _longer)


def _written(chance: random.Random, value: Any) -> bytes:
    """Write JSON, sometimes with a key twice, and lone surrogates as they are."""
    text = json.dumps(value, ensure_ascii=chance.random() < 0.5, separators=(",", ":"))
    if chance.random() < 0.1 and text.startswith("{") and len(text) > 2:
        text = text[:-1] + "," + text[1:-1] + "}"
    return text.encode("utf-8", "surrogatepass")


# What is done to bytes.


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
_BYTES: Sequence[Callable[[random.Random, bytes], bytes]] = (
    *(_truncated, _flipped, _inserted, _repeated),
)
_HEADERS = (
    "Expect: 100-continue",
    "Expect: a miracle",
    "Connection: close",
    "Connection: Upgrade\r\nUpgrade: websocket",
    "Content-Type: text/html; charset=utf-7",
    "X: " + "y" * 3000,
    "Cookie: " + "a=b; " * 500,
)
