"""preempt: would the victims the scheduler proposes make room for the pod?

The scheduler proposes victims for CPU and memory without asking filter. Unless the pod's GPU
instances fit once those victims are gone, evicting them helps nobody: the node is dropped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec

from extender.claims import claims, claims_of, vacated
from extender.ledger import Ledger
from extender.packing.choose import Choice, choose
from extender.packing.headroom import room
from extender.request import Request
from extender.snapshot import NodeView, Taken, taken_by
from extender.verbs.bind import place
from extender.verbs.permitted import bounds_among, forbidden, within
from extender.verbs.reasons import Fits, Refused, no_room
from extender.verbs.verdicts import unsuitable
from nodeagent.api.gpunode import Mode


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
        if uids
        and (view := views.get(name)) is not None
        and isinstance(_placed_without_pods(view, ledger, request, uids), Choice)
    )


def _placed_without_pods(
    view: NodeView, ledger: Ledger, request: Request, uids: Collection[str]
) -> Choice | Refused:
    if keeps_devices(view):
        return place(view, ledger, request)
    return placed_without(view, ledger, request, had_by(view, uids))


def keeps_devices(view: NodeView) -> bool:
    """Tell whether a VM that is stopped on a node keeps its devices: then nothing comes free."""
    return view.node.status.mode is Mode.HARVESTER


def had_by(view: NodeView, uids: Iterable[str]) -> frozenset[Taken]:
    """Return what the plan of a node has for some pods."""
    return frozenset(taken_by(each) for uid in uids for each in view.assignments_of(uid))


def placed_without(
    view: NodeView, ledger: Ledger, request: Request, leaving: Collection[Taken]
) -> Choice | Refused:
    """Choose the best places on a node once what is *leaving* is gone, or say why there are none.

    The pod's own place, if it has one here or one is kept for it, is no obstacle to it. What others
    wait for is, whoever is there now.
    """
    why_not = unsuitable(view, request.wanted)
    if why_not is not None:
        return why_not
    uid = request.pod.uid
    own = claims_of(view, uid)
    after = without(view, leaving) if own else view
    cleared = [taken_by(each) for each in own if vacated(after, (each,))]
    leaving = frozenset(leaving).union(had_by(view, (uid,)), view.kept_for(request.owner), cleared)
    waited_for = (each for each in claims(view) if each not in own)
    promised = (*ledger.assumed_on(view.name, besides=uid), *map(taken_by, waited_for))
    bins = view.bins(promised, leaving=leaving)
    if request.bounds is None:
        found = choose(bins, request.wanted, request.spread)
        return found if isinstance(found, Choice) else no_room(request.wanted, request.spread)
    gone = without(view, leaving)
    bounds = bounds_among(request, ledger, view.name)
    assert bounds is not None  # as the request has some
    why_not = forbidden(gone, request.wanted, bounds)
    if why_not is not None:
        return why_not
    regained = tuple(
        spare + room(bins, kept.profile) - room(view.bins(promised), kept.profile)
        for kept, spare in zip(bounds.terms.kept, bounds.spare, strict=True)
    )
    bounds = msgspec.structs.replace(bounds, spare=regained)
    verdict = within(gone, bins, request.wanted, bounds, spread=request.spread)
    return verdict.choice if isinstance(verdict, Fits) else verdict


def without(view: NodeView, leaving: Collection[Taken]) -> NodeView:
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
        releasing=tuple(each for each in view.releasing if each.taken not in leaving),
    )
