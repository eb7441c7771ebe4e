"""Which pods may be evicted for another: what the choice of victims is made from."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from extender.request import Request
from extender.service.enlisted import key
from extender.service.knowledge import Knowledge
from extender.snapshot import NodeView
from extender.verbs.victims import Unit, Victim
from nodeagent.api import rfc3339


def evictable(
    knowledge: Knowledge, view: NodeView, preemptor: Request, spared: Collection[str] = ()
) -> Mapping[str, Unit]:
    """Return the pods on a node that may be evicted for a *preemptor*, by UID.

    They are bound there, and of lower priority; of a gang all are, for they go together. Who is
    being bound, or is *spared*, may not be; nor may whose priority is not known.
    """
    return dict(_units(knowledge, view, knowledge.tenancy.priority(preemptor), spared))


def anybody_below(knowledge: Knowledge, view: NodeView, priority: int) -> bool:
    """Tell whether a pod on a node has a lower *priority*; if not, nobody there may be evicted."""
    known = map(knowledge.pods.get, view.pods)
    asked = (facts.asked for facts in known if facts is not None)
    return any(
        knowledge.tenancy.priority(each) < priority for each in asked if isinstance(each, Request)
    )


def _units(
    knowledge: Knowledge, view: NodeView, priority: int, spared: Collection[str]
) -> Iterator[tuple[str, Unit]]:
    for uid in view.pods:
        members = [_victim(knowledge, each) for each in _going_with(knowledge, uid)]
        if members and all(
            each is not None and each.priority < priority and each.uid not in spared
            for each in members
        ):
            yield uid, frozenset(each for each in members if each is not None)


def _going_with(knowledge: Knowledge, uid: str) -> Collection[str]:
    """Return the pods that go with one, it among them."""
    facts = knowledge.pods.get(uid)
    asked = None if facts is None else facts.asked
    if not isinstance(asked, Request) or asked.gang is None:
        return (uid,)
    placed = (
        each
        for each in knowledge.enlisted.members.get(key(asked.gang), ())
        if each in knowledge.assigned
    )
    return {uid, *placed}


def _victim(knowledge: Knowledge, uid: str) -> Victim | None:
    """Return a pod that is bound where it has its place, None for any other."""
    facts = knowledge.pods.get(uid)
    if facts is None or facts.over or not isinstance(facts.asked, Request):
        return None
    if {*knowledge.assigned.nodes_of(uid)} != {facts.node}:
        return None
    entries = knowledge.views[facts.node].assignments_of(uid)
    return Victim(
        uid,
        knowledge.tenancy.priority(facts.asked),
        sum(each.size for each in entries),
        movable=facts.movable,
        since=min(rfc3339.moment(each.since) for each in entries),
        leaving=facts.deleting,
    )
