"""A plan of moves carried out on the views of the nodes: do the policy's rules let it pass?

The planner keeps everybody from where the rules forbid them now. What it does not see is what moves
change: who shares with whom then, and what is left of caps and headroom.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from extender.advice.document import Obstacle
from extender.advice.setting import Setting
from extender.advice.yard import Yard
from extender.explain.after import beside, without
from extender.explain.board import bounds_of
from extender.moves import Place, Plan
from extender.packing.choose import Placed
from extender.packing.headroom import room
from extender.policy.bounds import Terms
from extender.request import Request
from extender.snapshot import NodeView
from extender.verbs.permitted import objection
from nodeagent.api.gpunode import Assignment


def objections(setting: Setting, there: Yard, found: Plan) -> Iterator[Obstacle]:
    """Yield what the rules say against a plan."""
    if setting.terms is None:
        return
    views = dict(setting.views)
    entries: dict[str, Assignment] = {}
    for move in found.moves:
        whose = there.whose[move.occupant]
        entry = entries.get(move.occupant, whose.entry)
        assert entry is not None  # or it would stay
        source, target = there.gpus[move.source][0].name, there.gpus[move.target][0].name
        goes = msgspec.structs.replace(
            entry, gpu=move.target, start=move.placement.start, size=move.placement.size
        )
        yield from _against_move(setting.terms, views[target], goes)
        views[source] = without(views[source], entry)
        views[target] = beside(views[target], goes)
        entries[move.occupant] = goes
    yield from _against_headroom(setting, there, views)
    for place in found.places:
        waiting = there.waiting.get(place.wanted)
        if waiting is None or waiting.request.bounds is None:
            continue
        name = there.gpus[place.gpu][0].name
        request, view = waiting.request, views[name]
        placed = (Placed(request.wanted[0], 0, place.gpu, place.profile_id, place.placement),)
        bins = view.bins(setting.ledger.assumed_on(name))
        why_not = objection(view, bins, placed, waiting.request.bounds)
        if why_not is not None:
            yield Obstacle(why_not.reason.removeprefix("vGPU: "), what=place.wanted)
        views[name] = beside(view, _entry(place, request))


def _against_move(terms: Terms, view: NodeView, goes: Assignment) -> Iterator[Obstacle]:
    """Yield why the rules keep a VM from where it would go; caps it has kept to already."""
    assert goes.pod is not None  # or it would stay
    bounds = bounds_of(terms, terms.tenants.get(goes.pod.namespace, ""))
    place = Placed(goes.resource, 0, goes.gpu, goes.profile_id, goes.placement)
    why_not = objection(view, (), (place,), bounds)
    if why_not is not None:
        text = why_not.reason.removeprefix("vGPU: ")
        yield Obstacle(f"the rules do not let a move of the plan found pass: {text}")


def _against_headroom(
    setting: Setting, there: Yard, then: Mapping[str, NodeView]
) -> Iterator[Obstacle]:
    """Yield the headroom that the moves alone would cost more of than is beyond what is kept.

    On GPUs that are drained there is none, before or after: they are about to go.
    """
    assert setting.terms is not None  # or nothing is kept
    rules = setting.terms.rules
    for kept in rules.headroom:
        before = after = 0
        for name, view in setting.views.items():
            if view.takes_new and rules.concerns(kept, view.labels):
                before += _room(setting, there, view, kept.profile)
                after += _room(setting, there, then[name], kept.profile)
        if after < min(before, kept.keep):
            yield Obstacle(
                f"the moves of the plan found would cost headroom kept for {kept.profile}"
            )


def _room(setting: Setting, there: Yard, view: NodeView, profile: str) -> int:
    bins = view.bins(setting.ledger.assumed_on(view.name))
    return room((bin for bin in bins if bin.uuid not in there.problem.drained), profile)


def _entry(place: Place, request: Request) -> Assignment:
    return Assignment(
        id=f"wanted/{place.wanted}",
        gpu=place.gpu,
        profile_id=place.profile_id,
        start=place.placement.start,
        size=place.placement.size,
        resource=request.wanted[0],
        since="",
        pod=request.pod,
    )
