"""prioritize: which of the nodes that fit a pod is best for what is still to come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from enum import IntEnum
from itertools import islice

import msgspec

from extender.ledger import Ledger
from extender.packing.choose import Choice
from extender.request import Request
from extender.verbs.bind import place
from extender.verbs.fleet import EquivalenceClass, Fleet, Rank, cost_of, rank
from extender.verbs.inherit import inherited
from extender.verbs.permitted import avoided
from extender.verbs.planned import planned
from extender.verbs.verdicts import Best, Fits, best

WINNER_SCORE = 10
"""The largest score of extender/v1. The others get 0 to 2: at weight 20 a step is 200 points, while
the in-tree scores add up to some 1,400, so the winner wins and the rest is a hint."""

RUNNERS_UP = (2,) * 8 + (1,) * 8
"""The hints for the next best nodes; all further ones get 0, and need not be ranked."""


FEW = 4
"""Nodes whose costs are told: who asks why wants to know of the alternatives."""


class Ranked(msgspec.Struct, frozen=True):
    """A score for each node asked about, and the winner with the places it would give.

    ``next_best`` is the best of the others, with what the pod's place there would have cost; of the
    ``best`` few, the winner first, that is told as well.
    """

    scores: Mapping[str, int]
    winner: str = ""
    choice: Choice | None = None
    next_best: tuple[str, int] | None = None
    best: tuple[tuple[str, int], ...] = ()


class Claim(IntEnum):
    """What a pod's place on a node rests on, the strongest first."""

    INHERITED = 0
    PLANNED = 1
    FREE = 2
    CONTESTED = 3


Standing = tuple[Claim, Rank]
"""The least is the best node."""


def prioritize(
    fleet: Fleet,
    ledger: Ledger,
    request: Request,
    names: Sequence[str],
    *,
    assigned: str = "",
    held: Set[str] = frozenset(),
) -> Ranked:
    """Rank *names*: least cost, then the GPU's precedence, the fuller node, the lowest name.

    Nodes whose only room is presumed for another pod come after all others. The node where the
    joint plan puts the pod comes before them, as long as the plan is right about it; before all
    comes a node, among those *held*, where the place of its owner's last pod is kept.
    """
    scores = dict.fromkeys(names, 0)
    if assigned and assigned in scores:
        return Ranked(scores | {assigned: WINNER_SCORE})
    special = (ledger.nodes | held) & fleet.views.keys() & scores.keys()
    like = fleet.to(request.wanted, request.bounds, request.spread, among=names)
    others = _free(like, scores.keys(), special)
    ranked = sorted(
        [*islice(others, 1 + len(RUNNERS_UP)), *_special(fleet, ledger, request, special)]
    )
    if not ranked:
        return Ranked(scores)
    (_, (*_, winner)), *behind = ranked
    for hint, (_, (*_, name)) in zip(RUNNERS_UP, behind, strict=False):
        scores[name] = hint
    scores[winner] = WINNER_SCORE
    choice = place(fleet.views[winner], ledger, request)
    assert isinstance(choice, Choice)  # or it would not have been ranked
    next_best = None if not behind else _costing(behind[0][1])
    few = tuple([_costing(found) for _, found in ranked[:FEW]])
    return Ranked(scores, winner, choice, next_best, few)


def _costing(found: Rank) -> tuple[str, int]:
    return found[-1], cost_of(found)


def _free(like: EquivalenceClass, names: Set[str], special: Set[str]) -> Iterator[Standing]:
    """Yield the nodes, of all but the *special*, where nobody is promised anything; best first."""
    return (
        (Claim.FREE, found)
        for found in like.order
        if found[-1] in names and found[-1] not in special
    )


def _special(fleet: Fleet, ledger: Ledger, request: Request, names: Set[str]) -> Iterator[Standing]:
    """Yield the nodes where somebody is promised something, and the request fits."""
    for name in names:
        view = fleet.views[name]
        kept = inherited(view, ledger, request)
        as_planned = kept or planned(view, ledger, request)
        if as_planned is not None:
            yield Claim.INHERITED if kept else Claim.PLANNED, rank(view, as_planned)
            continue
        match best(view, ledger, request):
            case Best(verdict=Fits(choice=choice), contested=contested):
                last = avoided(view, request.wanted, request.bounds)
                yield Claim.CONTESTED if contested else Claim.FREE, rank(view, choice, last=last)
