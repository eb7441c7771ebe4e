"""filter: which nodes a pod fits, and why it does not fit the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import msgspec

from extender.ledger import Ledger
from extender.packing.choose import Choice
from extender.request import Request
from extender.verbs.fleet import Fleet
from extender.verbs.planned import planned
from extender.verbs.verdicts import UNREPORTED, Code, Fits, Refused, verdict


class Filtered(msgspec.Struct, frozen=True):
    """Every candidate is in one of the two; ``passed`` keeps the order asked in."""

    passed: tuple[str, ...]
    refused: Mapping[str, str]
    """The reason for each."""
    codes: Set[Code]
    """All the reasons, for programs."""
    only: Choice | None = None
    """The choice on the one node that passed: prioritize will not be called for it."""


ELSEWHERE = Refused(Code.RESERVED_ELSEWHERE, "vGPU: this VM's place is reserved on another node")


def filter(
    fleet: Fleet,
    ledger: Ledger,
    request: Request,
    names: Sequence[str],
    *,
    assigned: str = "",
    yields: bool = False,
) -> Filtered:
    """Judge the candidate *names*; *assigned* is the node where the pod already has its place.

    A pod with a place passes there alone. If that node is not among the candidates, the pod is
    judged as if it had none, and its bind gives the old place back. Presumptions of others do not
    refuse: they may come to nothing, and prioritize avoids them. To a pod that *yields* they do: it
    was left out of a plan that was made for it and others together.
    """
    if assigned and assigned in names:
        elsewhere = dict.fromkeys(names, ELSEWHERE.reason)
        del elsewhere[assigned]
        return Filtered((assigned,), elsewhere, {ELSEWHERE.code})
    like = fleet.to(request.wanted)
    reason_of, unknown = like.refusals.get, UNREPORTED.reason
    passed: list[str] = []
    refused: dict[str, str] = {}
    for name in names:  # does as little as it can: there are thousands
        reason = reason_of(name, unknown)
        if reason:
            refused[name] = reason
        else:
            passed.append(name)
    codes = {like.codes[reason] for reason in set(refused.values())}
    promised = _refused_by_promises(fleet, ledger, request, yields=yields)
    if promised and not promised.keys().isdisjoint(passed):
        refused |= {name: promised[name].reason for name in passed if name in promised}
        codes |= {promised[name].code for name in passed if name in promised}
        passed = [name for name in passed if name not in promised]
    only = _on(passed[0], fleet, ledger, request) if len(passed) == 1 else None
    return Filtered(tuple(passed), refused, codes, only)


def _refused_by_promises(
    fleet: Fleet, ledger: Ledger, request: Request, *, yields: bool
) -> Mapping[str, Refused]:
    """Return the nodes on which others are promised what the request would have needed."""
    found = {}
    for name in ledger.nodes:
        view = fleet.views.get(name)
        taken = ledger.assumed_on(name, besides=request.pod.uid)
        if yields:
            taken += ledger.presumed_on(name, besides=request.pod.uid)
        if view is not None and taken:
            why = verdict(view, request.wanted, taken)
            if isinstance(why, Refused):
                found[name] = why
    return found


def _on(name: str, fleet: Fleet, ledger: Ledger, request: Request) -> Choice | None:
    """Return the choice on the one node that passed."""
    view = fleet.views[name]
    found = verdict(view, request.wanted, ledger.assumed_on(name, besides=request.pod.uid))
    assert isinstance(found, Fits)  # or it would not have passed
    return planned(view, ledger, request) or found.choice
