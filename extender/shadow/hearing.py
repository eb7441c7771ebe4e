"""Hearing what crosses the service's seam, and what of it is news to a shadow.

On the event loop a call is looked up by its name, and put to what waits; a thread makes news of it.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import cache
from typing import Any

import msgspec

from extender.decision_log.waiting import Waiting
from extender.service.hooks import Judged
from extender.service.knowledge import Knowledge
from extender.service.ports import PodFacts
from extender.service.seam import TOLD, Call
from extender.shadow import news
from extender.shadow.news import News

MOST_BYTES = 32 * 1024 * 1024
"""What may wait to be told, about: some seconds of a busy cluster."""

REMEMBERED = 20_000  # pods whose nodes were told of; of one that was forgotten they are told again


class Why(StrEnum):
    """Why a stretch is over."""

    OVERFLOW = "overflow"
    """News came faster than it was told."""
    DIED = "died"
    """The shadow's process ended, or never began."""
    POLICY = "policy"
    """The live policy is another."""
    SHADOW_POLICY = "shadow-policy"
    """The shadow's policy is another, or gone."""
    LEAD = "lead"
    """Another extender leads."""


_ENDS = {
    "Knowledge.adopt": Why.POLICY,
    "Knowledge.begin_term": Why.LEAD,
    "Knowledge.end_term": Why.LEAD,
}


class Hearing:
    """A witness that lets news wait in a queue, until something ends the stretch: ``over``."""

    def __init__(self, clock: Callable[[], float], most_bytes: int = MOST_BYTES) -> None:
        self.waiting = Waiting(most_bytes)
        self.over: Why | None = None
        self._clock = clock

    def heard(self, call: Call) -> None:
        """Let a call wait, if it is news; on the event loop."""
        try:
            self._hear(call)
        except Exception:
            self.over = self.over or Why.DIED  # what is not heard of is missing
            raise

    def _hear(self, call: Call) -> None:
        name = call.name
        if name in _ENDS:
            self.over = self.over or _ENDS[name]
        if self.over is not None or name not in _NEWS or not _matters(call):
            return
        if not call.readings:
            call = msgspec.structs.replace(call, readings=(self._clock(),))
        self.waiting.put(call)
        if self.waiting.refused:
            self.over = Why.OVERFLOW


def _matters(call: Call) -> bool:
    """Tell whether a call changes anything for a shadow: of pods, only that they are over."""
    if call.name != "Knowledge.pod":
        return True
    pod = call.args[0] if call.args else call.named.get("pod")
    return isinstance(pod, PodFacts) and pod.over


class Telling:
    """Makes news of calls, in a thread."""

    def __init__(self) -> None:
        self._told: OrderedDict[str, None] = OrderedDict()

    def news(self, call: Call) -> News:
        """Return what a call that was heard is to a shadow."""
        given = {**dict(zip(_parameters(call.name), call.args, strict=False)), **call.named}
        return _NEWS[call.name](self, call.readings[0], given, call.outcome)

    def _asked(self, at: float, given: Mapping[str, Any], outcome: object) -> News:
        request = given["request"]
        uid = request.pod.uid
        names = () if uid in self._told else given["names"]
        self._told[uid] = None
        self._told.move_to_end(uid)
        while len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        judged = outcome if isinstance(outcome, Judged) else Judged(error="failed")
        if judged.error:  # nothing was decided
            del self._told[uid]
            return news.Asked(at=at, request=request, names=names)
        codes = () if judged.passed else tuple(sorted(code.value for code in judged.codes))
        return news.Asked(
            at=at, request=request, names=names, passed=bool(judged.passed), codes=codes
        )

    def _left(self, at: float, given: Mapping[str, Any], _: object) -> News:
        uid = given["pod"].ref.uid if "pod" in given else given["uid"]
        self._told.pop(uid, None)
        return news.Left(at=at, uid=uid)

    def _gpus(self, at: float, given: Mapping[str, Any], _: object) -> News:
        return news.Gpus(at=at, node=given["node"], listed=given.get("listed", False))

    def _gone(self, at: float, given: Mapping[str, Any], _: object) -> News:
        return news.Gone(at=at, name=given["name"])

    def _node_gone(self, at: float, given: Mapping[str, Any], _: object) -> News:
        return news.Node(at=at, name=given["name"], closed=True)

    def _node(self, at: float, given: Mapping[str, Any], _: object) -> News:
        labels = given.get("labels") or {}
        return news.Node(at=at, name=given["name"], closed=given["cordoned"], labels=labels)

    def _namespace(self, at: float, given: Mapping[str, Any], _: object) -> News:
        return news.Namespace(at=at, name=given["name"], labels=given["labels"])


_NEWS: Mapping[str, Callable[[Telling, float, Mapping[str, Any], object], News]] = {
    "Hooks.judge": Telling._asked,
    "Knowledge.gpu_node": Telling._gpus,
    "Knowledge.gpu_node_deleted": Telling._gone,
    "Knowledge.gpu_node_gone": Telling._gone,
    "Knowledge.node": Telling._node,
    "Knowledge.node_gone": Telling._node_gone,
    "Knowledge.namespace": Telling._namespace,
    "Knowledge.pod": Telling._left,
    "Knowledge.pod_gone": Telling._left,
    "Knowledge.read_ended": Telling._left,
}


@cache
def _parameters(name: str) -> Sequence[str]:
    """Return the names of a told method's parameters, without ``self``."""
    return tuple(inspect.signature(TOLD[name]).parameters)[1:]


def standing(knowledge: Knowledge, begins: news.Begins) -> Iterator[News]:
    """Return how things stand at this moment, to be told by a thread in its time.

    What is known is taken hold of here and now, in one turn of the event loop: values that nobody
    changes any more.
    """
    at = begins.at
    namespaces = tuple(knowledge.tenancy.namespaces.items())
    labels, closed = dict(knowledge.labels), dict(knowledge.nodes)
    nodes = tuple(view.node for view in knowledge.views.values())
    known = {*knowledge.refused.uids, *knowledge.pending.waiting}

    def told() -> Iterator[News]:
        yield begins
        for name, each in namespaces:
            yield news.Namespace(at=at, name=name, labels=each)
        for name, cordoned in closed.items():
            yield news.Node(at=at, name=name, closed=cordoned, labels=labels.get(name, {}))
        for node in nodes:
            yield news.Gpus(at=at, node=node, listed=True)
        yield news.Ready(at=at, known=known)

    return told()
