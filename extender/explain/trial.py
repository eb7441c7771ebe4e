"""A plan of moves tried out on the views: would the rules let each step pass, and then the pod?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from extender.explain.after import beside, without
from extender.explain.board import Board, bounds_of
from extender.explain.situation import Situation
from extender.packing.choose import Placed
from extender.packing.headroom import room
from extender.packing.relocation import Move, Occupant
from extender.policy.bounds import Bounds
from extender.snapshot import NodeView
from extender.verbs.permitted import objection
from extender.verbs.verdicts import Fits, judged
from nodeagent.api.gpunode import Assignment

Views = Mapping[str, NodeView]


class Plan(NamedTuple):
    """Moves in their order, and where what is wanted goes then; GPUs by index on a board.

    ``places``: the resource, the GPU, and the GPU instance.
    """

    moves: tuple[Move, ...]
    places: tuple[tuple[str, int, Occupant], ...]


def passes(situation: Situation, there: Board, plan: Plan) -> bool:
    """Carry a plan out, and tell whether filter would let the pod pass then."""
    touched = [there.where[at].view for move in plan.moves for at in (move.source, move.target)]
    touched += [there.where[gpu].view for _, gpu, _ in plan.places]
    before = {view.name: view for view in touched}
    views = dict(before)
    entries = {
        move.occupant: (there.movers[move.occupant].view.name, there.movers[move.occupant].entry)
        for move in plan.moves
    }
    for move in plan.moves:
        source, entry = entries[move.occupant]
        at = there.where[move.target]
        goes = msgspec.structs.replace(
            entry, gpu=at.uuid, start=move.placement.start, size=move.placement.size
        )
        if not _may_go(situation, views[at.view.name], goes):
            return False
        views[source] = without(views[source], entry)
        views[at.view.name] = beside(views[at.view.name], goes)
        entries[move.occupant] = at.view.name, goes
    view = views[there.where[plan.places[0][1]].view.name]
    bounds = situation.bounds(view)
    if bounds is not None:
        then = _taken(views, there, plan, situation)
        if not _leaves_headroom(situation, bounds, (before, views, then)):
            return False
        bounds = msgspec.structs.replace(bounds, terms=bounds.terms.keeping_nothing, spare=())
    request, promised, own = situation.request, situation.promised(view), situation.own(view)
    found = judged(view, request.wanted, promised, own, bounds, request.spread)
    return isinstance(found, Fits)


def _may_go(situation: Situation, view: NodeView, entry: Assignment) -> bool:
    """Tell whether the rules let a VM be where it would go; caps it has kept to already."""
    if situation.request.bounds is None or entry.pod is None:
        return True
    terms = situation.request.bounds.terms
    bounds = bounds_of(terms, terms.tenants.get(entry.pod.namespace, ""))
    place = Placed(entry.resource, 0, entry.gpu, entry.profile_id, entry.placement)
    return objection(view, (), (place,), bounds) is None


def _taken(views: Mapping[str, NodeView], there: Board, plan: Plan, situation: Situation) -> Views:
    """Return the views with the pod in its place."""
    found = dict(views)
    for number, (resource, gpu, occupant) in enumerate(plan.places):
        at = there.where[gpu]
        entry = Assignment(
            id=f"for the pod/{number}",
            gpu=at.uuid,
            profile_id=occupant.profile_id,
            start=occupant.placement.start,
            size=occupant.placement.size,
            resource=resource,
            since="",
            pod=situation.request.pod,
        )
        found[at.view.name] = beside(found[at.view.name], entry)
    return found


def _leaves_headroom(
    situation: Situation, bounds: Bounds, stages: tuple[Views, Views, Views]
) -> bool:
    """Tell whether the moves, and then the pod, cost no headroom, or only what is beyond it.

    ``stages`` are the nodes touched: before all, after the moves, and with the pod.
    """
    rules = bounds.terms.rules
    for kept in bounds.terms.kept:
        concerned = [
            view
            for view in situation.views.values()
            if view.takes_new and rules.concerns(kept, view.labels)
        ]
        total = sum(_room(situation, view, kept.profile) for view in concerned)
        names = {view.name for view in concerned}
        before, moved, then = (
            sum(_room(situation, view, kept.profile) for name, view in at.items() if name in names)
            for at in stages
        )
        after_moves = total - before + moved
        if before - moved > max(0, total - kept.keep):
            return False
        if moved - then > max(0, after_moves - kept.keep):
            return False
    return True


def _room(situation: Situation, view: NodeView, profile: str) -> int:
    return room(view.bins(situation.promised(view)), profile)
