"""What to do next for an order of moves, by what is seen of the cluster.

::

    hold the target ─▶ have the VM leave ─▶ its next pod takes what is held, ─▶ the next move
          │                  │ refused, stopped     │             and is Ready
          │                  │                      │ elsewhere, ended, or not in time
          └──────────────────┴──────────────────────┴─▶ end: give back what is held, and hold a
                                                          place for a VM that is nowhere

Nothing is taken from what was done before but what the order keeps: whoever asks, after whatever
happened, is told the step that is right now, and to take one twice does no harm.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from extender.moving.arriving import STARTING, its_own, not_arrived
from extender.moving.attained import lacking
from extender.moving.claiming import unclaimed
from extender.moving.ending import last_step
from extender.moving.order import Departure, Leg, Order, Outcome, Seat
from extender.moving.steps import (
    Again,
    Arrived,
    Depart,
    Desist,
    End,
    Hold,
    Restraint,
    Skip,
    Step,
    Wait,
)
from extender.moving.there import Pod, There
from extender.request import Request
from extender.verbs.inherit import inherited
from nodeagent.api import keys
from nodeagent.api.gpunode import PodRef

SILENT = "the driver of the node that the VM is to go to does not answer"
NOBODY_WAITS = "nobody waits any more for the room that was to be made"
TAKEN_BACK = "the place held for the VM was taken back"
RESTARTS = "the VM's pod is starting or ending"
NOT_LEFT = "the VM's pod did not leave in time"
NOT_COME = "the VM's next pod did not come in time"
YET_TO_COME = "the VM's next pod has yet to come"
UNBOUND = "a pod has yet to be bound to the place made for it"
ENDED = "the VM's next pod ended where it was to go"


def next_step(order: Order, there: There, restraint: Restraint, *, overdue: bool) -> Step:
    """Return the next step.

    *overdue*: what was begun last takes longer than it may.
    """
    if order.ending is not None:
        return last_step(order, there)
    leg = order.leg
    stop = order.stopping or restraint.stop
    if leg is not None and order.departed is not None:
        restraint = msgspec.structs.replace(restraint, stop=stop)
        return _under_way(order, leg, order.departed, there, restraint, overdue=overdue)
    if stop:
        return End(Outcome.STOPPED, stop)
    if leg is None:
        return _admit(order, there, overdue=overdue)
    if _in_vain(order, there):
        return End(Outcome.STOPPED, NOBODY_WAITS)
    if restraint.paused:
        return Wait(restraint.paused)
    return _begin(order, leg, there, wait=restraint.wait, overdue=overdue)


def _begin(order: Order, leg: Leg, there: There, *, wait: str, overdue: bool) -> Step:
    come, stands = its_own(there.at(leg.target), leg), its_own(there.at(leg.source), leg)
    if come is not None and (stands is None or not there.lives(stands.uid)):
        if there.over(come.uid):
            return End(Outcome.GIVEN_UP, ENDED)
        lacks = not_arrived(leg, come, there)
        return _until(lacks, overdue=overdue) if lacks else Arrived(leg, come)
    if stands is None:
        theirs = tuple(there.entries_of(leg.owner))
        if order.left_by_itself(theirs):
            return Skip(leg, overdue)
        if all(each.pod is None for each in theirs):
            return _until(RESTARTS, overdue=overdue)  # its place is held for its next pod
        return End(Outcome.GIVEN_UP, "the VM is no longer where it was to leave")
    pod = there.pods.get(stands.uid)
    if pod is None or pod.deleting or pod.over or pod.node != leg.source.node:
        return _until(RESTARTS, overdue=overdue)
    if forbidden := _forbidden(pod, there):
        return End(Outcome.GIVEN_UP, forbidden)
    missing, kept = [], list[str]()
    for node, entry in order.holds():
        if not there.held(node, entry.id):
            seat = Seat(node, entry.gpu, entry.profile_id, entry.start, entry.size)
            ahead = f"{entry.id}{keys.AHEAD_SUFFIX}"
            if there.free(seat, entry.resource, kept=ahead):
                missing.append((node, entry))
                kept += [ahead] if there.held(node, ahead) else []
            elif entry.id == order.id_of(order.at):
                if overdue or there.in_use(seat):
                    text = "the place that the VM was to go to is not free"
                    return End(Outcome.GIVEN_UP, text)
                return Wait("the place that the VM is to go to has yet to be free")
    claims, obstacle = unclaimed(order, there)
    if obstacle is not None and not obstacle.passes:
        return End(Outcome.GIVEN_UP, obstacle.why)
    if missing or claims:
        return Hold((*missing, *claims), frozenset(kept))
    if obstacle is not None:
        return _until(obstacle.why, overdue=overdue)
    if not _would_inherit(leg, pod, there):
        target = there.views.get(leg.target.node)
        if target is not None and not target.takes_new and not overdue:
            return Wait("the node that the VM is to go to takes nothing new now")
        return End(Outcome.GIVEN_UP, "the VM's next pod could not have the place held for it")
    if _silent(leg, there):
        return _until(SILENT, overdue=overdue)
    if kept_from := _kept_from(leg, pod, there):
        return _until(kept_from, overdue=overdue)
    if wait:
        return Wait(wait)
    others = (other.uid for _, other in there.of(leg.owner) if other != pod.ref)
    return Depart(leg, pod.ref, tuple(dict.fromkeys(others)), pod.ref.uid in there.unready)


def _in_vain(order: Order, there: There) -> bool:
    """Tell whether all is done for pods of whom none waits any more."""
    return order.for_pods and not any(there.waits(each.pod.uid) for each in order.places)


def _until(why: str, *, overdue: bool) -> Step:
    """Wait for what passes, but not for ever."""
    return End(Outcome.GIVEN_UP, why) if overdue else Wait(why)


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


def _silent(leg: Leg, there: There) -> bool:
    """Tell whether it is not known if anything can be made where a VM is to go."""
    view = there.views.get(leg.target.node)
    return view is None or view.unsure


def _kept_from(leg: Leg, pod: Pod, there: There) -> str:
    """Return why kube-scheduler would not let a VM's next pod run where it is to go, "" if so."""
    why = there.kept_from(leg.target.node, pod.ref.uid)
    return f"the VM's next pod may not run on {leg.target.node}: {why}" if why else ""


def _under_way(
    order: Order,
    leg: Leg,
    departure: Departure,
    there: There,
    restraint: Restraint,
    *,
    overdue: bool,
) -> Step:
    leaving = there.pods.get(departure.pod.uid)
    stays = leaving is not None and not leaving.over
    come = its_own(there.at(leg.target), leg)
    lacks = NOT_COME
    if come is not None and not stays:
        if there.over(come.uid):
            return End(Outcome.GIVEN_UP, ENDED)
        lacks = not_arrived(leg, come, there, unready=departure.unready)
        if not lacks:
            return Arrived(leg, come)
        if restraint.stop and lacks != STARTING:  # it is there, and may never be
            who = f"{leg.owner.namespace}/{leg.owner.name} has left"
            return End(Outcome.STOPPED, f"{restraint.stop}; {who}: {lacks}")
    untold = leaving is not None and stays and not leaving.deleting  # as far as the watch shows
    if overdue and untold:
        return Desist(leg, departure, NOT_LEFT, Outcome.GIVEN_UP, cancels=True, overdue=True)
    if overdue:
        late = NOT_COME if lacks == STARTING else lacks
        return End(Outcome.GIVEN_UP, NOT_LEFT if stays else late)
    if untold and restraint.stop:
        return Desist(leg, departure, restraint.stop, cancels=True)
    if come is not None:
        return Wait(STARTING if stays else lacks)
    if leaving is not None and stays:
        return _still_there(order, leg, departure, leaving, there, paused=restraint.paused)
    known = {departure.pod.uid, *departure.others}
    for node, other in there.of(leg.owner):
        if other.uid not in known:
            return End(Outcome.GIVEN_UP, f"the VM has come to {node} instead")
    if not there.held(leg.target.node, order.id_of(order.at)):
        return End(Outcome.GIVEN_UP, TAKEN_BACK)
    return Wait(YET_TO_COME)


def _still_there(
    order: Order, leg: Leg, departure: Departure, pod: Pod, there: There, *, paused: str
) -> Step:
    """Have a pod leave that has been told to and has not, if all is still as it was then."""
    if pod.deleting:
        return Wait("the VM's pod is ending")
    if paused:
        return Wait(paused)
    if not there.held(leg.target.node, order.id_of(order.at)):
        return Desist(leg, departure, TAKEN_BACK, Outcome.GIVEN_UP)
    if forbidden := _forbidden(pod, there):
        return Desist(leg, departure, forbidden, Outcome.GIVEN_UP)
    if _in_vain(order, there):
        return Desist(leg, departure, NOBODY_WAITS)
    claims, obstacle = unclaimed(order, there)
    if obstacle is not None and not obstacle.passes:
        return Desist(leg, departure, obstacle.why, Outcome.GIVEN_UP)
    if claims:
        return Hold(claims)
    if obstacle is not None:
        return Wait(obstacle.why)
    if not _would_inherit(leg, pod, there):
        return Wait("the place held for the VM could not be had now")
    if _silent(leg, there):
        return Wait(SILENT)
    if kept_from := _kept_from(leg, pod, there):
        return Wait(kept_from)
    return Again(leg, departure)


def _admit(order: Order, there: There, *, overdue: bool) -> Step:
    """Wait until the pods that the moves were made for are in their places, and all goals hold."""
    waiting = [each.pod for each in order.places if there.waits(each.pod.uid)]
    if not waiting:
        lacks = None if order.asked is None else lacking(order.asked, there)
        if lacks is None:
            return _bound(order, there, overdue=overdue)
        why = f"all moves were made, and {lacks.why}"
        return _until(why, overdue=overdue or not lacks.passes)
    if overdue:
        why = f"all moves were made, and {_names(waiting)} has not had its place"
        return End(Outcome.GIVEN_UP, why)
    missing, obstacle = unclaimed(order, there)
    if obstacle is not None and not obstacle.passes:
        return End(Outcome.GIVEN_UP, obstacle.why)
    return Hold(missing) if missing else Wait("a pod has yet to have the place made for it")


def _bound(order: Order, there: There, *, overdue: bool) -> Step:
    """Wait until the pods that have had their places are bound to them, or have ended."""
    starting = [each.pod for each in order.places if there.starts(each.pod.uid)]
    if not starting:
        return End(Outcome.DONE)
    if not overdue:
        return Wait(UNBOUND)
    why = f"all moves were made, and {_names(starting)} has not been bound to its place"
    return End(Outcome.GIVEN_UP, why)


def _names(pods: Iterable[PodRef]) -> str:
    return ", ".join(f"{pod.namespace}/{pod.name}" for pod in pods)
