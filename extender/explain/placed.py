"""Why a pod is where it is: what its place costs, and the best place it might have instead."""

from __future__ import annotations

from collections.abc import Sequence

from extender.explain.explanation import Here, Rated
from extender.explain.room import spot
from extender.explain.situation import Judged, Situation
from extender.packing.choose import Choice, Placed, precedence
from extender.snapshot import NodeView
from extender.verbs.fleet import Rank, rank
from extender.verbs.permitted import avoided
from extender.verbs.planned import cost_at
from extender.verbs.verdicts import Fits


def here(situation: Situation, view: NodeView, judged: Sequence[Judged]) -> Here:
    """Return why the pod is on a node: its own place counts as free, all else is as it is now."""
    entries = view.assignments_of(situation.uid)
    ids = [each.id for each in entries]
    on = tuple(spot(view, each.gpu, each.placement) for each in entries)
    profiles = tuple(view.profile_named(each.gpu, each.profile_id) for each in entries)
    realized, failure = view.realized(ids), view.failure(ids)
    then = situation.then
    if then is not None and then.node != view.name:
        then = None  # it came to be elsewhere: by a plan, or by another replica
    own = _own(situation, view)
    if own is None:
        return Here(on, profiles, realized, failure, then=then)
    others = [
        (_rank(situation, each.view, each.verdict.choice), each.view, each.verdict.choice)
        for each in judged
        if each.fits and isinstance(each.verdict, Fits) and each.view is not view
    ]
    ours = _rank(situation, view, own)
    best = min(others, key=lambda each: each[0], default=None)
    return Here(
        on,
        profiles,
        realized,
        failure,
        rank=1 + sum(1 for ranked, _, _ in others if ranked[0] < ours[0]),
        nodes=1 + len(others),
        cost=own.cost,
        runner_up=None if best is None else _rated(best[1], best[2]),
        then=then,
    )


def _own(situation: Situation, view: NodeView) -> Choice | None:
    """Return the pod's place as a choice, None where it cannot be rated."""
    bins = view.bins(situation.promised(view), leaving=situation.own(view))
    index = {bin.uuid: at for at, bin in enumerate(bins)}
    entries = view.assignments_of(situation.uid)
    if view.standing or not all(each.gpu in index for each in entries):
        return None
    placed = tuple(
        Placed(each.resource, index[each.gpu], each.gpu, each.profile_id, each.placement)
        for each in entries
    )
    cost = cost_at(bins, placed)
    tie = -sum(precedence(bins[each.bin]) for each in placed)
    return None if cost is None else Choice(cost, tie, placed)


def _rank(situation: Situation, view: NodeView, choice: Choice) -> Rank:
    request = situation.request
    return rank(view, choice, last=avoided(view, request.wanted, request.bounds))


def _rated(view: NodeView, choice: Choice) -> Rated:
    on = tuple(spot(view, each.uuid, each.placement) for each in choice.placed)
    return Rated(on, choice.cost)
