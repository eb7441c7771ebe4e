"""The place held for a pod that comes back: where its owner's last one was, if it asks the same.

With Harvester a VM keeps its devices while it is off: they are as good as places held. So are those
that a pod has waited for while others left them.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from extender.claims import claims_of, vacated
from extender.ledger import Ledger
from extender.packing.choose import Choice, Placed
from extender.request import Request
from extender.snapshot import NodeView, taken_by
from extender.verbs.permitted import bounds_among, objection
from extender.verbs.planned import cost_at
from extender.verbs.standing import SPENDS_NOTHING, placed_at
from extender.verbs.verdicts import unsuitable
from nodeagent.api.gpunode import Assignment


def inherited(view: NodeView, ledger: Ledger, request: Request) -> Choice | None:
    """Return the places held on a node for the pod's owner; None if it cannot have them all.

    The GPU instance of the owner's last pod, or of the one before, may still be there: the agent
    destroys it before it makes the next one. A foreign one is in the way. Members of a gang inherit
    nothing: they are placed together.
    """
    return _held(view, ledger, request) or _kept(view, ledger, request)


def _held(view: NodeView, ledger: Ledger, request: Request) -> Choice | None:
    holds = _asked_again(view, request)
    if not holds or unsuitable(view, request.wanted) is not None:
        return None
    if not request.spread.allows([hold.gpu for hold in holds]):
        return None
    if any(_obstructed(view, hold) for hold in holds):
        return None
    return _reserved(view, ledger, request, holds)


def waited_for(view: NodeView, ledger: Ledger, request: Request) -> Choice | None:
    """Return the places a pod has waited for on a node; None while, or if, it cannot have them."""
    own = claims_of(view, request.pod.uid)
    if not own or unsuitable(view, request.wanted) is not None or not vacated(view, own):
        return None
    if tuple(sorted(claim.resource for claim in own)) != request.wanted:
        return None
    return _reserved(view, ledger, request, own)


def _reserved(
    view: NodeView, ledger: Ledger, request: Request, entries: Sequence[Assignment]
) -> Choice | None:
    """Return the very places of reservations; None if they cannot be had, or are forbidden."""
    promised = ledger.assumed_on(view.name, besides=request.pod.uid)
    bins = view.bins(promised, leaving={taken_by(each) for each in entries})
    index = {bin.uuid: at for at, bin in enumerate(bins)}
    if not all(each.gpu in index for each in entries):
        return None
    placed = tuple(
        Placed(each.resource, index[each.gpu], each.gpu, each.profile_id, each.placement)
        for each in entries
    )
    cost = cost_at(bins, placed)
    if cost is None or not _allowed(view, ledger, request, placed):
        return None
    return Choice(cost, 0, placed)


def _allowed(view: NodeView, ledger: Ledger, request: Request, placed: tuple[Placed, ...]) -> bool:
    """Tell whether the rules still let a pod have what is held, kept or claimed for it.

    No headroom is lost by that.
    """
    bounds = bounds_among(request, ledger, view.name)
    if bounds is None:
        return True
    bounds = msgspec.structs.replace(bounds, terms=bounds.terms.keeping_nothing, spare=())
    return objection(view, (), placed, bounds) is None


def _kept(view: NodeView, ledger: Ledger, request: Request) -> Choice | None:
    """Return devices that the owner keeps here, None unless it has one for each thing it wants."""
    owner = request.owner
    if owner not in view.keepers or request.gang is not None or not view.takes_new:
        return None
    promised = ledger.assumed_on(view.name, besides=request.pod.uid)
    left = [each for each in view.standing_for(owner, promised) if owner in each.keepers]
    placed = []
    for wanted in request.wanted:
        found = next((each for each in left if each.resource == wanted), None)
        if found is None:
            return None
        left.remove(found)
        placed.append(placed_at(found))
    if not request.spread.allows([each.uuid for each in placed]):
        return None
    if not _allowed(view, ledger, request, tuple(placed)):
        return None
    return Choice(SPENDS_NOTHING, 0, tuple(placed))


def superseded(view: NodeView, request: Request, choice: Choice) -> tuple[str, ...]:
    """Return the ids of the owner's own reservations that the pod's *choice* takes the place of."""
    return tuple(
        hold.id
        for hold in view.held_for(request.owner)
        if any(
            hold.gpu == each.uuid and hold.placement.mask & each.placement.mask
            for each in choice.placed
        )
    )


def _asked_again(view: NodeView, request: Request) -> tuple[Assignment, ...]:
    """Return a reservation of the owner for each thing the pod wants, none if one is missing."""
    left = list(view.held_for(request.owner)) if request.gang is None else []
    chosen = []
    for wanted in request.wanted:
        hold = next((each for each in left if each.resource == wanted), None)
        if hold is None:
            return ()
        left.remove(hold)
        chosen.append(hold)
    return tuple(chosen)


def _obstructed(view: NodeView, hold: Assignment) -> bool:
    """Tell whether a GPU instance sits in the place that the agent did not make."""
    return any(
        not there.assignment and not there.standing and there.placement.mask & hold.placement.mask
        for gpu in view.node.status.gpus
        if gpu.uuid == hold.gpu
        for there in gpu.instances
    )
