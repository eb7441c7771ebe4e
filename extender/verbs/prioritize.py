"""prioritize: which of the nodes that fit a pod is best for what is still to come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from extender.ledger import Ledger
from extender.packing.choose import Choice
from extender.request import Request
from extender.snapshot import NodeView
from extender.verbs.inherit import inherited
from extender.verbs.planned import planned
from extender.verbs.verdicts import Best, Fits, best

WINNER_SCORE = 10
"""The largest score of extender/v1. The others get 0 to 2: at weight 20 a step is 200 points, while
the in-tree scores add up to some 1,400, so the winner wins and the rest is a hint."""

_RUNNERS_UP = (2, 1, 0)


class Ranked(msgspec.Struct, frozen=True):
    """A score for each node asked about, and the winner with the places it would give."""

    scores: Mapping[str, int]
    winner: str = ""
    choice: Choice | None = None


def prioritize(
    views: Mapping[str, NodeView],
    ledger: Ledger,
    request: Request,
    names: Sequence[str],
    *,
    assigned: str = "",
) -> Ranked:
    """Rank *names*: least cost first, then the fuller GPU, the fuller node, the lowest name.

    Nodes whose only room is presumed for another pod come after all others. The node where the
    joint plan puts the pod comes before them, as long as the plan is right about it; before all
    comes the node where the place of its owner's last pod is held.
    """
    if assigned and assigned in names:
        return Ranked({name: WINNER_SCORE * (name == assigned) for name in names})
    ranked: list[tuple[tuple[int, bool, int, int, int, str], Choice]] = []
    for name in dict.fromkeys(names):
        view = views.get(name)
        if view is None:
            continue
        inheritance = inherited(view, ledger, request)
        destined = inheritance or planned(view, ledger, request)
        if destined is not None:
            first = 0 if inheritance else 1
            rank = (first, False, destined.cost, destined.tie, -view.fullness, name)
            ranked.append((rank, destined))
            continue
        match best(view, ledger, request):
            case Best(verdict=Fits(choice=choice), contested=contested):
                rank = (2, contested, choice.cost, choice.tie, -view.fullness, name)
                ranked.append((rank, choice))
    ranked.sort(key=lambda each: each[0])
    scores = dict.fromkeys(names, 0)
    for place, (rank, _) in enumerate(ranked[1:]):
        scores[rank[-1]] = _RUNNERS_UP[place * len(_RUNNERS_UP) // len(ranked)]
    if not ranked:
        return Ranked(scores)
    (*_, winner), choice = ranked[0]
    return Ranked({**scores, winner: WINNER_SCORE}, winner, choice)
