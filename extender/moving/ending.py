"""What there is to do for an order at its end: give back what is held, and leave a VM a place."""

from __future__ import annotations

from collections.abc import Iterator

from extender.moving.order import Order
from extender.moving.steps import Over, Release, Step, Wait
from extender.moving.there import There
from nodeagent.api.gpunode import Assignment


def last_step(order: Order, there: There) -> Step:
    """Return the next step of an order that is ending."""
    left, back = dict(_left(order, there)), dict(_way_back(order, there))
    if left or back:
        return Release(left, back)
    if _leaves(order, there):
        return Wait("what the VM has left has yet to leave the plan")
    return Over()


def _left(order: Order, there: There) -> Iterator[tuple[str, frozenset[str]]]:
    for name, view in there.views.items():
        if ids := frozenset(each.id for each in view.reservations if order.owns(each)):
            yield name, ids


def _way_back(order: Order, there: There) -> Iterator[tuple[str, Assignment]]:
    """Yield what is to be held for a VM that has left, or is about to, and has come nowhere.

    What it has left, unless somebody has that by now, or the node takes nothing new, as one that is
    drained; then where it was to go.
    """
    leg, departure = order.leg, order.departed
    if leg is None or departure is None:
        return
    leaving, known = there.pods.get(departure.pod.uid), {departure.pod.uid, *departure.others}
    if leaving is not None and not (leaving.over or leaving.deleting):
        return
    if any(other.uid not in known for _, other in there.of(leg.owner)):
        return
    for seat in (leg.source, leg.target):
        view, entry = there.views.get(seat.node), order.way_back(seat)
        if view is None or (seat is leg.source and not view.takes_new):
            continue
        others = (each for each in view.node.spec.assignments if not order.owns(each))
        in_the_way = [each for each in others if _overlap(entry, each)]
        if not in_the_way:
            yield view.name, entry
            return
        if any(each.owner == leg.owner for each in in_the_way):
            return  # its pod is ending there, or that is held for it already


def _leaves(order: Order, there: There) -> bool:
    """Tell whether the plans still have a place for the pod that has left.

    Once they have not, that place is held for its VM, by whoever took it back or by the order.
    """
    leg, departure = order.leg, order.departed
    if leg is None or departure is None or there.lives(departure.pod.uid):
        return False
    return any(pod.uid == departure.pod.uid for _, pod in there.of(leg.owner))


def _overlap(one: Assignment, other: Assignment) -> bool:
    return one.gpu == other.gpu and bool(one.placement.mask & other.placement.mask)
