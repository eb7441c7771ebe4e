"""The place the joint plan gives a pod, as long as it is still right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from extender.ledger import Ledger
from extender.packing.choose import Bin, Choice, Placed
from extender.request import Request
from extender.snapshot import NodeView
from extender.verbs.permitted import bounds_among, objection
from extender.verbs.verdicts import unsuitable


def planned(view: NodeView, ledger: Ledger, request: Request) -> Choice | None:
    """Return the planned places of a pod on a node; None if the plan has none there, or not now.

    Made from an older state of the node, the plan holds while its GPUs are usable, serve what is
    asked for by the same profile, have the very slices free, and no device stands there already.
    """
    plan = ledger.planned.get(request.pod.uid)
    if plan is None or plan.node != view.name:
        return None
    if tuple(sorted(each.wanted for each in plan.placed)) != request.wanted:
        return None
    if not request.spread.allows([each.uuid for each in plan.placed]):
        return None
    if unsuitable(view, request.wanted) is not None:
        return None
    if any(each.resource in request.wanted for each in view.standing_for(None)):
        return None  # which the kubelet would give it, whatever is made for it
    bins = view.bins(ledger.assumed_on(view.name, besides=request.pod.uid))
    cost = cost_at(bins, plan.placed)
    if cost is None:
        return None
    bounds = bounds_among(request, ledger, view.name)
    if bounds is not None and objection(view, bins, plan.placed, bounds) is not None:
        return None
    return Choice(cost, 0, plan.placed)


def cost_at(bins: Sequence[Bin], places: Iterable[Placed]) -> int | None:
    """Return what it costs to place things at these very *places*, None where one cannot be had.

    One can be if its GPU is among the *bins*, serves what is wanted by the same profile, and has
    the slices free.
    """
    by_uuid = {bin.uuid: bin for bin in bins}
    states = {uuid: bin.occupancy for uuid, bin in by_uuid.items()}
    cost = 0
    for each in places:
        bin = by_uuid.get(each.uuid)
        profile = None if bin is None else bin.profile(each.wanted)
        if bin is None or profile is None or profile.id != each.profile_id:
            return None
        for option in bin.tables.options(states[each.uuid], profile):
            if option.placement == each.placement:
                cost += option.cost
                states[each.uuid] = option.after
                break
        else:
            return None
    return cost
