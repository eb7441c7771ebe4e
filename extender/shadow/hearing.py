"""Hearing what crosses the service's seam, and what of it is news to a shadow.

On the event loop a call is looked up by its name, and put to what waits; a thread makes news of it.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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

MOST_BYTES = 64 * 1024 * 1024
"""What may wait to be told, about: of filters with 5,000 nodes some eighty pods' first."""

REMEMBERED = 20_000  # pods whose nodes were told of; of one that was forgotten they are told again


class Why(StrEnum):
    """Why a stretch is over."""

    OVERFLOW = "overflow"
    """News came faster than it was told."""
    LATE = "late"
    """Its evidence was behind for too long, or it hangs."""
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
    """A witness that lets news wait in a queue, until something ends the stretch: ``over``.

    *nodes* are those with GPUs, by name, as it begins.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        most_bytes: int = MOST_BYTES,
        nodes: Collection[str] = (),
    ) -> None:
        self.waiting = Waiting(most_bytes)
        self.over: Why | None = None
        self.clock = clock
        self._nodes = set(nodes)
        self._joined = 0
        self._told: OrderedDict[str, int] = OrderedDict()
        """The pods whose nodes were told of, with how many had joined by then."""

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
        if name == _JUDGE:
            call = self._judged(call)
        elif name in _GPU_NODES:
            self._joins_or_goes(call)
        if not call.readings:
            call = msgspec.structs.replace(call, readings=(self.clock(),))
        self.waiting.put(call)
        if self.waiting.refused:
            self.over = Why.OVERFLOW

    def _judged(self, call: Call) -> Call:
        """Return what of a filter is news: of thousands of nodes, that any passed is enough.

        Which a pod may go to is told once, and again once another node has joined: kube-scheduler
        asks about it again and again.
        """
        given: dict[str, Any] = dict(zip(("request", "names"), call.args, strict=False))
        given.update(call.named)
        request, judged = given["request"], call.outcome
        if not isinstance(judged, Judged):
            judged = Judged(error="failed")
        uid = request.pod.uid
        if self._told.get(uid) == self._joined:
            given["names"] = ()
        elif not judged.error:
            self._told[uid] = self._joined
            while len(self._told) > REMEMBERED:
                self._told.popitem(last=False)
        little = Judged(judged.passed[:1], {}, judged.codes, judged.error)
        return Call(call.name, (), given, call.readings, little)

    def _joins_or_goes(self, call: Call) -> None:
        """Take in which nodes there are with GPUs; one that is gone joins when it comes back."""
        given = _given(call)
        if call.name != "Knowledge.gpu_node":
            self._nodes.discard(given["name"])
            return
        name = given["node"].name
        if name not in self._nodes:
            self._nodes.add(name)
            self._joined += 1


def _matters(call: Call) -> bool:
    """Tell whether a call changes anything for a shadow: of pods, only that they are over."""
    if call.name != "Knowledge.pod":
        return True
    pod = call.args[0] if call.args else call.named.get("pod")
    return isinstance(pod, PodFacts) and pod.over


Given = Mapping[str, Any]


def _given(call: Call) -> Given:
    """Return a call's arguments by name."""
    return {**dict(zip(_parameters(call.name), call.args, strict=False)), **call.named}


def told(call: Call) -> News:
    """Return what a call that was heard is to a shadow; in a thread."""
    return _NEWS[call.name](call.readings[0], _given(call), call.outcome)


def _asked(at: float, given: Given, outcome: object) -> News:
    assert isinstance(outcome, Judged)
    passed = bool(outcome.passed)
    codes = () if passed else tuple(sorted(code.value for code in outcome.codes))
    return news.Asked(
        at=at, request=given["request"], names=given["names"], passed=passed, codes=codes
    )


def _left(at: float, given: Given, _: object) -> News:
    return news.Left(at=at, uid=given["pod"].ref.uid if "pod" in given else given["uid"])


def _gpus(at: float, given: Given, _: object) -> News:
    return news.Gpus(at=at, node=given["node"], listed=given.get("listed", False))


def _gone(at: float, given: Given, _: object) -> News:
    return news.Gone(at=at, name=given["name"], uid=given["uid"])


def _deleted(at: float, given: Given, _: object) -> News:
    return news.Gone(at=at, name=given["name"], uid=given["uid"], deleted=True)


def _listed(at: float, given: Given, _: object) -> News:
    return news.Listed(at=at, uids=given["uids"], version=given["version"])


def _node(at: float, given: Given, _: object) -> News:
    labels = given.get("labels") or {}
    closed = given["cordoned"] or given.get("rival") is not None
    return news.Node(at=at, name=given["name"], closed=closed, labels=labels)


def _node_gone(at: float, given: Given, _: object) -> News:
    return news.Node(at=at, name=given["name"], closed=True)


def _namespace(at: float, given: Given, _: object) -> News:
    return news.Namespace(at=at, name=given["name"], labels=given["labels"])


def _namespace_gone(at: float, given: Given, _: object) -> News:
    return news.NamespaceGone(at=at, name=given["name"])


_JUDGE = "Hooks.judge"
_GPU_NODES = frozenset(
    ("Knowledge.gpu_node", "Knowledge.gpu_node_deleted", "Knowledge.gpu_node_gone")
)

_NEWS: Mapping[str, Callable[[float, Given, object], News]] = {
    _JUDGE: _asked,
    "Knowledge.gpu_node": _gpus,
    "Knowledge.gpu_node_deleted": _deleted,
    "Knowledge.gpu_node_gone": _gone,
    "Knowledge.gpu_nodes_are": _listed,
    "Knowledge.node": _node,
    "Knowledge.node_gone": _node_gone,
    "Knowledge.namespace": _namespace,
    "Knowledge.namespace_gone": _namespace_gone,
    "Knowledge.pod": _left,
    "Knowledge.pod_gone": _left,
    "Knowledge.read_ended": _left,
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
    labels, rivals = dict(knowledge.labels), set(knowledge.rivals)
    closed = {name: cordoned or name in rivals for name, cordoned in knowledge.nodes.items()}
    nodes = tuple(view.node for view in knowledge.views.values())
    known = {*knowledge.refused.uids, *knowledge.pending.waiting}

    def every() -> Iterator[News]:
        yield begins
        for name, each in namespaces:
            yield news.Namespace(at=at, name=name, labels=each)
        for name, takes_nothing in closed.items():
            yield news.Node(at=at, name=name, closed=takes_nothing, labels=labels.get(name, {}))
        for node in nodes:
            yield news.Gpus(at=at, node=node, listed=True)
        yield news.Ready(at=at, known=known)

    return every()
