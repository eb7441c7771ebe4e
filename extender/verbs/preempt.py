"""preempt: would the victims the scheduler proposes make room for the pod?

The scheduler proposes victims for CPU and memory without asking filter. Unless the pod's GPU
instances fit once those victims are gone, evicting them helps nobody: the node is dropped.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from extender.ledger import Ledger
from extender.packing.choose import Choice, choose
from extender.packing.headroom import room
from extender.request import Request
from extender.snapshot import NodeView, Taken, taken_by
from extender.verbs.permitted import bounds_among, forbidden, within
from extender.verbs.reasons import Fits


def sufficient(
    views: Mapping[str, NodeView],
    ledger: Ledger,
    request: Request,
    victims: Mapping[str, Collection[str]],
) -> tuple[str, ...]:
    """Return the nodes on which *request* fits without the *victims* (UIDs by node name)."""
    return tuple(
        name
        for name, uids in victims.items()
        if uids and (view := views.get(name)) is not None and _fits(view, ledger, request, uids)
    )


def _fits(view: NodeView, ledger: Ledger, request: Request, victims: Collection[str]) -> bool:
    if not view.takes_new:
        return False
    # The pod's own place, if it has one here or one is kept for it, is no obstacle to it.
    leaving = {
        taken_by(each) for uid in (*victims, request.pod.uid) for each in view.assignments_of(uid)
    }.union(view.kept_for(request.owner))
    promised = ledger.assumed_on(view.name, besides=request.pod.uid)
    bins = view.bins(promised, leaving=leaving)
    if request.bounds is None:
        return isinstance(choose(bins, request.wanted, request.spread), Choice)
    gone = _without(view, leaving)
    bounds = bounds_among(request, ledger, view.name)
    assert bounds is not None  # as the request has some
    if forbidden(gone, request.wanted, bounds) is not None:
        return False
    regained = tuple(
        spare + room(bins, kept.profile) - room(view.bins(promised), kept.profile)
        for kept, spare in zip(bounds.terms.kept, bounds.spare, strict=True)
    )
    bounds = msgspec.structs.replace(bounds, spare=regained)
    spread = request.spread
    return isinstance(within(gone, bins, request.wanted, bounds, spread=spread), Fits)


def _without(view: NodeView, leaving: Collection[Taken]) -> NodeView:
    """Return the view as it will be when those who hold these slices are gone."""
    node, status = view.node, view.node.status
    gpus = tuple(
        msgspec.structs.replace(
            gpu,
            instances=tuple(
                each
                for each in gpu.instances
                if Taken(gpu.uuid, each.profile_id, each.placement) not in leaving
            ),
        )
        for gpu in status.gpus
    )
    kept = tuple(each for each in node.spec.assignments if taken_by(each) not in leaving)
    return msgspec.structs.replace(
        view,
        node=msgspec.structs.replace(
            node,
            spec=msgspec.structs.replace(node.spec, assignments=kept),
            status=msgspec.structs.replace(status, gpus=gpus),
        ),
    )
