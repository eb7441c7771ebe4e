"""prioritize: which of the nodes that fit a pod is best for what is still to come."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice

import msgspec

from extender.ledger import Ledger
from extender.packing.choose import Choice
from extender.request import Request
from extender.verbs.bind import place
from extender.verbs.fleet import EquivalenceClass, Fleet, Rank, rank
from extender.verbs.planned import planned
from extender.verbs.verdicts import Best, Fits, best

WINNER_SCORE = 10
"""The largest score of extender/v1. The others get 0 to 2: at weight 20 a step is 200 points, while
the in-tree scores add up to some 1,400, so the winner wins and the rest is a hint."""

RUNNERS_UP = (2,) * 8 + (1,) * 8
"""The hints for the next best nodes; all further ones get 0, and need not be ranked."""


class Ranked(msgspec.Struct, frozen=True):
    """A score for each node asked about, and the winner with the places it would give."""

    scores: Mapping[str, int]
    winner: str = ""
    choice: Choice | None = None


Standing = tuple[bool, bool, Rank]
"""Not as planned, contested, and how good the node is: the least is the best."""


def prioritize(
    fleet: Fleet,
    ledger: Ledger,
    request: Request,
    names: Sequence[str],
    *,
    assigned: str = "",
) -> Ranked:
    """Rank *names*: least cost first, then the fuller GPU, the fuller node, the lowest name.

    Nodes whose only room is presumed for another pod come after all others. The node where the
    joint plan puts the pod comes before all, as long as the plan is right about it.
    """
    scores = dict.fromkeys(names, 0)
    if assigned and assigned in scores:
        return Ranked(scores | {assigned: WINNER_SCORE})
    promised = {name for name in ledger.nodes if name in scores and name in fleet.views}
    others = _undisturbed(fleet.to(request.wanted), scores.keys(), promised)
    ranked = sorted(
        [
            *islice(others, 1 + len(RUNNERS_UP)),
            *_disturbed(fleet, ledger, request, promised),
        ]
    )
    if not ranked:
        return Ranked(scores)
    (*_, (*_, winner)), *behind = ranked
    for hint, (*_, (*_, name)) in zip(RUNNERS_UP, behind, strict=False):
        scores[name] = hint
    scores[winner] = WINNER_SCORE
    choice = place(fleet.views[winner], ledger, request)
    assert isinstance(choice, Choice)  # or it would not have been ranked
    return Ranked(scores, winner, choice)


def _undisturbed(
    like: EquivalenceClass, names: Collection[str], promised: Collection[str]
) -> Iterator[Standing]:
    """Yield the nodes where nothing is promised, the best first."""
    return (
        (True, False, found)
        for found in like.order
        if (name := found[-1]) in names and name not in promised
    )


def _disturbed(
    fleet: Fleet, ledger: Ledger, request: Request, promised: Collection[str]
) -> Iterator[Standing]:
    """Yield the nodes where something is promised and the request fits nevertheless."""
    for name in promised:
        view = fleet.views[name]
        as_planned = planned(view, ledger, request)
        if as_planned is not None:
            yield False, False, rank(view, as_planned)
            continue
        match best(view, ledger, request):
            case Best(verdict=Fits(choice=choice), contested=contested):
                yield True, contested, rank(view, choice)
