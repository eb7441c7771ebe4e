"""What to do next for an order of moves, by what is seen of the cluster.

::

    hold the target ─▶ have the VM leave ─▶ its next pod takes what is held ─▶ the next move
          │                  │ refused              │ elsewhere, or not in time
          └──────────────────┴──────────────────────┴─▶ end: give back what is held, and hold for
                                                          the VM what it has left

Nothing is taken from what was done before but what the order keeps: whoever asks, after whatever
happened, is told the step that is right now, and to take one twice does no harm.
"""

from __future__ import annotations

from collections.abc import Iterator

from extender.moving.order import Departure, Leg, Order, Outcome, Seat
from extender.moving.steps import (
    Again,
    Arrived,
    Depart,
    End,
    Hold,
    Over,
    Release,
    Restraint,
    Step,
    Wait,
)
from extender.moving.there import Pod, There
from extender.request import Request
from extender.verbs.inherit import inherited
from nodeagent.api.gpunode import Assignment

TAKEN_BACK = "the place held for the VM was taken back"


def next_step(order: Order, there: There, restraint: Restraint, *, overdue: bool) -> Step:
    """Return the next step.

    *overdue*: what was begun last takes longer than it may.
    """
    if order.ending is not None:
        left, back = dict(_left(order, there)), dict(_way_back(order, there))
        return Release(left, back) if left or back else Over()
    leg = order.leg
    if leg is not None and order.departed is not None:
        paused = restraint.paused
        return _under_way(order, leg, order.departed, there, paused=paused, overdue=overdue)
    stop = order.stopping or restraint.stop
    if stop:
        return End(Outcome.STOPPED, stop)
    if leg is None:
        return _admit(order, there, overdue=overdue)
    if order.for_pods and not any(there.waits(each.pod.uid) for each in order.places):
        return End(Outcome.STOPPED, "nobody waits any more for the room that was to be made")
    if restraint.paused:
        return Wait(restraint.paused)
    return _begin(order, leg, there, wait=restraint.wait, overdue=overdue)


def _left(order: Order, there: There) -> Iterator[tuple[str, frozenset[str]]]:
    for name, view in there.views.items():
        if ids := frozenset(each.id for each in view.reservations if order.owns(each)):
            yield name, ids


def _way_back(order: Order, there: There) -> Iterator[tuple[str, Assignment]]:
    """Yield what is to be held for a VM that has left and come nowhere, if nobody has it by now."""
    leg, departure = order.leg, order.departed
    if leg is None or departure is None:
        return
    leaving, known = there.pods.get(departure.pod.uid), {departure.pod.uid, *departure.others}
    stays = leaving is not None and not leaving.over
    view, entry = there.views.get(leg.source.node), order.way_back()
    if stays or view is None or not view.takes_new:
        return
    if any(other.uid not in known for _, other in there.of(leg.owner)):
        return
    if not any(
        _overlap(entry, other) for other in view.node.spec.assignments if not order.owns(other)
    ):
        yield view.name, entry


def _overlap(one: Assignment, other: Assignment) -> bool:
    return one.gpu == other.gpu and bool(one.placement.mask & other.placement.mask)


def _begin(order: Order, leg: Leg, there: There, *, wait: str, overdue: bool) -> Step:
    come = there.at(leg.target)
    if come is not None and come.pod is not None and come.owner == leg.owner:
        return Arrived(leg, come.pod)
    there_now = there.at(leg.source)
    if there_now is None or there_now.pod is None or there_now.owner != leg.owner:
        return End(Outcome.GIVEN_UP, "the VM is no longer where it was to leave")
    pod = there.pods.get(there_now.pod.uid)
    if pod is None or pod.deleting or pod.over or pod.node != leg.source.node:
        return End(Outcome.GIVEN_UP, "the VM's pod is starting or ending")
    if forbidden := _forbidden(pod, there):
        return End(Outcome.GIVEN_UP, forbidden)
    missing = []
    for node, entry in order.holds():
        if not there.held(node, entry.id):
            seat = Seat(node, entry.gpu, entry.profile_id, entry.start, entry.size)
            if there.free(seat, entry.resource):
                missing.append((node, entry))
            elif entry.id == order.id_of(order.at):
                if overdue or there.in_use(seat):
                    text = "the place that the VM was to go to is not free"
                    return End(Outcome.GIVEN_UP, text)
                return Wait("the place that the VM is to go to has yet to be free")
    for node, entry, uid in order.claims():
        if not there.held(node, entry.id) and there.waits(uid):
            missing.append((node, entry))
    if missing:
        return Hold(tuple(missing))
    if not _would_inherit(leg, pod, there):
        target = there.views.get(leg.target.node)
        if target is not None and not target.takes_new and not overdue:
            return Wait("the node that the VM is to go to takes nothing new now")
        return End(Outcome.GIVEN_UP, "the VM's next pod could not have the place held for it")
    if wait:
        return Wait(wait)
    others = (other.uid for _, other in there.of(leg.owner) if other != pod.ref)
    return Depart(leg, pod.ref, tuple(dict.fromkeys(others)))


def _forbidden(pod: Pod, there: There) -> str:
    """Return who forbids, as of now, that a pod is moved; "" for nobody."""
    if not pod.movable:
        return "the VM's pod says that it is not to be moved"
    bounds = there.bounded(pod.asked).bounds if isinstance(pod.asked, Request) else None
    if bounds is not None and not bounds.terms.movable(pod.ref.namespace):
        return "the VM's tenant does not let it be moved"
    return ""


def _would_inherit(leg: Leg, pod: Pod, there: There) -> bool:
    """Tell whether a pod such as this, if it came now, would have the place held for it.

    By what decides when it does come; nobody is stopped on a guess.
    """
    view = there.views.get(leg.target.node)
    if view is None or not isinstance(pod.asked, Request):
        return False
    choice = inherited(view, there.ledger, there.bounded(pod.asked))
    return choice is not None and any(
        (each.uuid, each.profile_id, each.placement)
        == (leg.target.gpu, leg.target.profile_id, leg.target.taken.placement)
        for each in choice.placed
    )


def _under_way(
    order: Order,
    leg: Leg,
    departure: Departure,
    there: There,
    *,
    paused: str,
    overdue: bool,
) -> Step:
    leaving = there.pods.get(departure.pod.uid)
    stays = leaving is not None and not leaving.over
    come = there.at(leg.target)
    if come is not None and come.pod is not None and come.owner == leg.owner and not stays:
        view, pod = there.views[leg.target.node], there.pods.get(come.pod.uid)
        if pod is not None and pod.node == view.name and view.realized((come.id,)):
            return Arrived(leg, come.pod)
    if overdue:
        return End(Outcome.GIVEN_UP, _what_did_not_happen(stays=stays))
    if come is not None:
        return Wait("the VM's next pod is starting")
    if leaving is not None and stays:
        return _still_there(order, leg, departure, leaving, there, paused=paused)
    known = {departure.pod.uid, *departure.others}
    for node, other in there.of(leg.owner):
        if other.uid not in known:
            return End(Outcome.GIVEN_UP, f"the VM has come to {node} instead")
    if not there.held(leg.target.node, order.id_of(order.at)):
        return End(Outcome.GIVEN_UP, TAKEN_BACK)
    return Wait("the VM's next pod has yet to come")


def _still_there(
    order: Order, leg: Leg, departure: Departure, pod: Pod, there: There, *, paused: str
) -> Step:
    """Have a pod leave that has been told to and has not, if all is still as it was then."""
    if pod.deleting:
        return Wait("the VM's pod is ending")
    if paused:
        return Wait(paused)
    if not there.held(leg.target.node, order.id_of(order.at)):
        return End(Outcome.GIVEN_UP, TAKEN_BACK)
    if forbidden := _forbidden(pod, there):
        return End(Outcome.GIVEN_UP, forbidden)
    if not _would_inherit(leg, pod, there):
        return Wait("the place held for the VM could not be had now")
    return Again(leg, departure)


def _what_did_not_happen(*, stays: bool) -> str:
    whose = "the VM's pod did not leave" if stays else "the VM's next pod did not come"
    return f"{whose} in time"


def _admit(order: Order, there: There, *, overdue: bool) -> Step:
    """Wait until the pods that the moves were made for have their places."""
    waiting = [(at, place) for at, place in enumerate(order.places) if there.waits(place.pod.uid)]
    if not waiting:
        return End(Outcome.DONE)
    if overdue:
        names = ", ".join(f"{each.pod.namespace}/{each.pod.name}" for _, each in waiting)
        return End(Outcome.GIVEN_UP, f"all moves were made, and {names} has not had its place")
    missing = tuple(
        (place.seat.node, order.claim(at))
        for at, place in waiting
        if not there.held(place.seat.node, order.id_of_place(at))
        and (view := there.views.get(place.seat.node)) is not None
        and view.takes_new
    )
    return Hold(missing) if missing else Wait("a pod has yet to have the place made for it")
