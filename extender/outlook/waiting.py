"""On which nodes the pods that have no place would fit, as filter would tell it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import msgspec

from extender.explain.situation import Situation, judgements
from extender.outlook.there import Side, There
from extender.request import Request
from extender.verbs.verdicts import UNREPORTED, Refused


class Kind(msgspec.Struct, frozen=True):
    """Pods that stand alike to any policy: one of them, and the nodes they may go to, if known."""

    request: Request
    candidates: frozenset[str] | None

    def looks(self, there: There) -> int:
        """Return how many nodes are looked at for it."""
        return len(there.views if self.candidates is None else self.candidates)


def without_place(there: There, side: Side) -> Iterator[Kind]:
    """Yield each pod that has no place and may be given one."""
    for uid, facts in there.pods.items():
        asked = facts.asked
        if facts.node or facts.over or facts.deleting or uid in side.assigned:
            continue
        if isinstance(asked, Request):
            known = there.filtered.get(uid)
            yield Kind(asked, None if known is None else frozenset(known.nodes))
    for uid in there.filtered.keys() - there.pods.keys():
        if uid not in side.assigned:
            yield Kind(there.filtered[uid].request, frozenset(there.filtered[uid].nodes))


def kinds(there: There, side: Side) -> Counter[Kind]:
    """Return the kinds of pods that wait, with how many there are of each."""
    found: dict[object, Kind] = {}
    counts: Counter[Kind] = Counter()
    for each in without_place(there, side):
        counts[found.setdefault(_alike(there, side, each), each)] += 1
    return counts


def _alike(there: There, side: Side, kind: Kind) -> object:
    """Return what pods have in common that are judged alike, whatever the policy.

    One of whom something is known by name is like no other: a place promised or held.
    """
    request = kind.request
    uid, owner = request.pod.uid, request.owner
    by_name = uid in there.ledger.assumed or side.holds.nodes_of(owner)
    return (
        uid if by_name else "",
        request.pod.namespace,
        request.wanted,
        request.spread,
        request.priority,
        request.gang is None,
        kind.candidates,
    )


def reasons(side: Side, kind: Kind) -> Mapping[str, str]:
    """Return, by code, why nodes refuse such a pod that fits on none; {} if it fits on one."""
    there = side.there
    situation = Situation(
        side.tenancy.bounded(kind.request, there.ledger),
        side.views,
        there.ledger,
        side.policy.policy.effective.value,
        side.policy.version,
        candidates=kind.candidates,
    )
    found: dict[str, str] = {}
    for each in judgements(situation):
        if each.fits:
            return {}
        if each.candidate and isinstance(each.verdict, Refused):
            found.setdefault(each.verdict.code.value, each.verdict.reason)
    return found or {UNREPORTED.code.value: UNREPORTED.reason}
