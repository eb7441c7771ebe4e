"""A starting fleet and its demand so far: what a what-if begins with, wherever it is from.

It is the JSON that a desk answers, and that can be kept in a file. GPU instances are told by their
profile and place, not by whose they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Protocol

import msgspec

from extender.simulation.history import History
from nodeagent.api.geometry import Count, Geometry, Start
from nodeagent.api.gpunode import Mode

_Index = Annotated[int, msgspec.Meta(ge=0)]
_Weight = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


class _Told(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """How every value of this module looks as JSON."""


class Kin(_Told, frozen=True):
    """GPUs of one kind: what they can be divided into, and which profiles (ids) are offered."""

    model: str
    geometry: Geometry
    serves: tuple[int, ...]
    mode: Mode


class Held(_Told, frozen=True, array_like=True):
    """A GPU instance; ``fixed``: Tangram did not make it, so that it can be moved nowhere."""

    profile_id: int
    start: Start
    fixed: bool = False


class Gpu(_Told, frozen=True):
    """A GPU in use; ``kin`` is an index into the baseline's."""

    kin: _Index
    held: tuple[Held, ...] = ()


class Node(_Told, frozen=True):
    """A node. ``why`` is why it takes nothing new, "" where it does.

    ``elsewhere`` counts, by profile name, what pods have on GPUs that are not in use any more.
    """

    name: str
    why: str = ""
    gpus: tuple[Gpu, ...] = ()
    elsewhere: Mapping[str, Count] = {}


class Requests(_Told, frozen=True):
    """What was asked for.

    By profile name: ``lately``, counts that fade by half in a week; ``waiting``, instances that
    pods wait for. ``history`` is what was wanted, day by day.
    """

    lately: Mapping[str, _Weight] = {}
    waiting: Mapping[str, Count] = {}
    history: History = History()


class Baseline(_Told, frozen=True):
    """The fleet at a moment (RFC 3339 UTC), and the demand up to then."""

    at: str
    policy: str
    kin: tuple[Kin, ...] = ()
    nodes: tuple[Node, ...] = ()
    requests: Requests = Requests()


class NoBaseline(Exception):
    """There is none to be had; the message says why, and what to do."""


class Source(Protocol):
    """Where a baseline comes from: a cluster, a file, a log of decisions."""

    def baseline(self) -> Baseline:
        """Return the fleet and its demand.

        Raises:
            NoBaseline: saying why there is none.
        """
        ...


def parsed(content: bytes, name: str) -> Baseline:
    """Read a baseline; *name* is where it is from.

    Raises:
        NoBaseline: it is none, or makes no sense.
    """
    try:
        found = msgspec.json.decode(content, type=Baseline)
        datetime.fromisoformat(found.at)
    except (msgspec.MsgspecError, ValueError) as error:
        raise NoBaseline(
            f"{name}: not what `tangram simulate --from cluster --save` writes: {error}"
        ) from error
    for kin in found.kin:
        for problem in kin.geometry.malformations():
            raise NoBaseline(f"{name}: geometry of {kin.model}: {problem}")
    for node in found.nodes:
        for gpu in node.gpus:
            _check(found, node, gpu, name)
    history = found.requests.history
    if any(len(row) != len(history.periods) for row in history.wanted.values()):
        raise NoBaseline(f"{name}: requests.history has not one number for each period")
    return found


def _check(found: Baseline, node: Node, gpu: Gpu, name: str) -> None:
    if gpu.kin >= len(found.kin):
        raise NoBaseline(f"{name}: node {node.name}: no kin {gpu.kin}, there are {len(found.kin)}")
    known = found.kin[gpu.kin].geometry.by_id
    for held in gpu.held:
        if held.profile_id not in known:
            raise NoBaseline(f"{name}: node {node.name}: no profile {held.profile_id}")
