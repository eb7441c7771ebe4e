"""filter: which nodes a pod fits, and why it does not fit the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import repeat

import msgspec

from extender.ledger import Ledger
from extender.packing.choose import Choice
from extender.request import Request
from extender.verbs.bind import place
from extender.verbs.fleet import Fleet
from extender.verbs.inherit import inherited
from extender.verbs.permitted import bounds_among
from extender.verbs.verdicts import UNREPORTED, Code, Refused, verdict


class Filtered(msgspec.Struct, frozen=True):
    """Every candidate is in one of the two; ``passed`` keeps the order asked in."""

    passed: tuple[str, ...]
    refused: Mapping[str, str]
    """The reason for each."""
    codes: Set[Code]
    """All the reasons, for programs."""
    only: Choice | None = None
    """The choice on the one node that passed: prioritize will not be called for it."""
    everywhere: bool = False
    """Whether the candidates are known to be all nodes there are."""


NAMES_A_VERDICT = 64
"""Names looked up in a set in the time in which one node is judged anew."""

ELSEWHERE = Refused(Code.RESERVED_ELSEWHERE, "vGPU: this VM's place is reserved on another node")


def filter(
    fleet: Fleet,
    ledger: Ledger,
    request: Request,
    names: Sequence[str],
    *,
    assigned: str = "",
    held: Set[str] = frozenset(),
    yields: bool = False,
) -> Filtered:
    """Judge the candidate *names*; *assigned* is the node where the pod already has its place.

    A pod with a place passes there alone. If that node is not among the candidates, the pod is
    judged as if it had none, and its bind gives the old place back. Presumptions of others do not
    refuse: they may come to nothing, and prioritize avoids them. To a pod that *yields* they do: it
    was left out of a plan that was made for it and others together. On the nodes *held*, places are
    kept for the pod's owner, and are there for it.
    """
    if assigned and assigned in names:
        elsewhere = dict.fromkeys(names, ELSEWHERE.reason)
        del elsewhere[assigned]
        return Filtered((assigned,), elsewhere, {ELSEWHERE.code})
    like = fleet.to(request.wanted, request.bounds, request.spread, among=names)
    reasons, codes = like.refusals, like.codes
    # One pass for each question, for there are thousands of names.
    found = list(map(reasons.get, names, repeat(UNREPORTED.reason)))
    anew = {
        name: why
        for name, why in _judged_anew(fleet, ledger, request, names, held, yields=yields)
        if reasons.get(name) != _reason(why)
    }
    if anew:
        found = list(map({name: _reason(why) for name, why in anew.items()}.get, names, found))
        codes = codes | {why.reason: why.code for why in anew.values() if why}
    told = set(found)
    passed: tuple[str, ...]
    if "" not in told:
        passed, refused = (), dict(zip(names, found, strict=True))
    elif len(told) > 1:
        passed = tuple([name for name, reason in zip(names, found, strict=True) if not reason])
        refused = {name: reason for name, reason in zip(names, found, strict=True) if reason}
    else:
        passed, refused = tuple(names), {}
    only = place(fleet.views[passed[0]], ledger, request) if len(passed) == 1 else None
    return Filtered(
        passed,
        refused,
        {codes[reason] for reason in told if reason},
        only if isinstance(only, Choice) else None,
        everywhere=(
            not like.behind and len(names) == len(reasons) and UNREPORTED.reason not in told
        ),
    )


def _judged_anew(
    fleet: Fleet,
    ledger: Ledger,
    request: Request,
    names: Sequence[str],
    held: Set[str],
    *,
    yields: bool,
) -> Iterator[tuple[str, Refused | None]]:
    """Yield how nodes stand to this one pod where promises, or places *held*, make a difference.

    Nodes that are not among the *names* may be left out.
    """
    special: Set[str] = (ledger.nodes | held) & fleet.views.keys()
    if len(names) < min(len(fleet.views), NAMES_A_VERDICT * len(special)):
        special = frozenset(special).intersection(names)
    for name in special:
        view = fleet.views[name]
        certain = ledger.assumed_on(name, besides=request.pod.uid)
        presumed = ledger.presumed_on(name, besides=request.pod.uid) if yields else ()
        own = view.kept_for(request.owner)
        if inherited(view, ledger, request):
            yield name, None
        elif certain or presumed or own:
            bounds = bounds_among(request, ledger, name, presumed=yields)
            why = verdict(view, request.wanted, certain, own, bounds, request.spread, presumed)
            yield name, why if isinstance(why, Refused) else None


def _reason(why: Refused | None) -> str:
    return "" if why is None else why.reason
