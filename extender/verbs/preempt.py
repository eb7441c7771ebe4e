"""preempt: would the victims the scheduler proposes make room for the pod?

The scheduler proposes victims for CPU and memory without asking filter. Unless the pod's GPU
instances fit once those victims are gone, evicting them helps nobody: the node is dropped.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from extender.ledger import Ledger
from extender.packing.choose import Choice, choose
from extender.request import Request
from extender.snapshot import NodeView, taken_by


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
    return isinstance(choose(bins, request.wanted), Choice)
