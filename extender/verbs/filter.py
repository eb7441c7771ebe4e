"""filter: which nodes a pod fits, and why it does not fit the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never

import msgspec

from extender.ledger import Ledger
from extender.packing.choose import Choice
from extender.request import Request
from extender.snapshot import NodeView
from extender.verbs.inherit import inherited
from extender.verbs.planned import planned
from extender.verbs.verdicts import UNREPORTED, Code, Fits, Refused, verdict


class Filtered(msgspec.Struct, frozen=True):
    """Every candidate is in one of the two; ``passed`` keeps the order asked in."""

    passed: tuple[str, ...]
    refused: Mapping[str, Refused]
    only: Choice | None = None
    """The choice on the one node that passed: prioritize will not be called for it."""


ELSEWHERE = Refused(Code.RESERVED_ELSEWHERE, "vGPU: this VM's place is reserved on another node")


def filter(
    views: Mapping[str, NodeView],
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
    was left out of a plan that was made for it and others together. A place that is held for the
    pod's owner is there for it.
    """
    if assigned and assigned in names:
        return Filtered((assigned,), dict.fromkeys(set(names) - {assigned}, ELSEWHERE))
    passed: list[str] = []
    refused: dict[str, Refused] = {}
    choice: Choice | None = None
    for name in dict.fromkeys(names):
        view = views.get(name)
        if view is None:
            refused[name] = UNREPORTED
            continue
        taken = ledger.assumed_on(name, besides=request.pod.uid)
        if yields:
            taken += ledger.presumed_on(name, besides=request.pod.uid)
        inheritance = inherited(view, ledger, request)
        match Fits(inheritance) if inheritance else verdict(view, request, taken):
            case Fits(choice=found):
                passed.append(name)
                choice = found if len(passed) == 1 else None
            case Refused() as why:
                refused[name] = why
            case unexpected:
                assert_never(unexpected)
    if choice is not None:
        only = views[passed[0]]
        choice = inherited(only, ledger, request) or planned(only, ledger, request) or choice
    return Filtered(tuple(passed), refused, choice)
