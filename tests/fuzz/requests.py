"""Requests as kube-scheduler sends them, and then not quite.

Everything is drawn from one :class:`random.Random`: a seed gives the same requests again.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

from nodeagent.api import keys
from tests.builders import VGPU, raw_pod
from tests.fuzz.mutations import CHANGES, DAMAGES, anywhere, written

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
    for change in chance.sample(CHANGES, chance.choice((0, 1, 1, 2, 4))):
        whole = anywhere(chance, whole, change)
    body = written(chance, whole)
    if chance.random() < 0.3:
        body = chance.choice(DAMAGES)(chance, body)
    headers = ["Host: hooks", "Content-Type: application/json", "Accept-Encoding: gzip"]
    if chance.random() < 0.05:
        headers.append(f"Content-Encoding: {chance.choice(('gzip', 'deflate', 'br', 'x'))}")
        body = zlib.compress(bytes(1_000_000))
    if chance.random() < 0.05:
        headers.append(chance.choice(_HEADERS))
    headers.append(f"Content-Length: {len(body)}")
    head = "\r\n".join((f"POST /{verb} HTTP/1.1", *headers)).encode() + b"\r\n\r\n"
    if chance.random() < 0.05:
        return Hostile(verb, chance.choice(DAMAGES)(chance, head) + body, intact=False)
    return Hostile(verb, head + body)


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
    for field in ("labels", "annotations"):
        if chance.random() < 0.2:
            pod["metadata"][field] = written_by_a_tenant(chance)
    return pod


def written_by_a_tenant(chance: random.Random) -> dict[str, str]:
    """Draw labels or annotations: names that mean something to us, with what may be said there."""
    return {chance.choice(_NAMES): chance.choice(_SAID) for _ in range(chance.choice((1, 3, 50)))}


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


_NAMES = (
    *(keys.GANG, keys.GANG_SIZE, keys.MANAGED_LABEL, keys.LEADER_LABEL, keys.AGENT_LABEL),
    *(keys.DECISION_ANNOTATION, keys.WAKE_ANNOTATION, keys.GPUS_ANNOTATION),
    *(keys.ASSIGNMENT_ANNOTATION, "tangram.dev/planned", "kubevirt.io", "kubevirt.io/domain"),
    *("", "x" * 300, "\u202e/\U0001f9e9", "../..", "\x00"),
)
_SAID = (
    *("true", "", "none", "gang", "gang\n", "2", "256", "257", "-1", "1e3", "[]", "{", "\x00"),
    '[{"id":"a","gpu":"GPU-0","profile":"7g.80gb","profileId":0,"start":0,"size":8}]',
    *("x" * 20_000, "\u202e\U0001f9e9", "../../nodes", "GPU-0,GPU-1"),
)
_QUANTITIES = ("1e99", "9" * 18 + "Ti", "1.5", "-1", "", " 1", "0x1", "1" * 5000, 1e308, -5, 1.5)
_HEADERS = (
    "Expect: 100-continue",
    "Expect: a miracle",
    "Connection: close",
    "Connection: Upgrade\r\nUpgrade: websocket",
    "Content-Type: text/html; charset=utf-7",
    "X: " + "y" * 3000,
    "Cookie: " + "a=b; " * 500,
)
