"""Whether the VM under way has left, has come, and is what it was, and what keeps it from that."""

from __future__ import annotations

from extender.moving.order import Leg, Order
from extender.moving.there import There
from nodeagent.api.gpunode import Assignment, PodRef

STARTING = "the VM's next pod is starting"


def its_own(entry: Assignment | None, leg: Leg) -> PodRef | None:
    """Return the pod of an entry, if it is one of the owner whose VM is moved."""
    return None if entry is None or entry.owner != leg.owner else entry.pod


def not_arrived(leg: Leg, come: PodRef, there: There, *, unready: bool = False) -> str:
    """Return why a VM has not arrived whose pod has come where it is to go; "" if it has.

    The pod is to be bound there, its GPU instance made, and it is to be Ready, which is what
    Services and disruption budgets go by, too; unless the one that it follows was *unready*. A
    launcher is Ready once its containers are, by their probes if they have any, and KubeVirt says
    that the VM is not paused: of one that a VM migrates to, only when the migration is over.
    """
    node, pod, entry = leg.target.node, there.pods.get(come.uid), there.at(leg.target)
    view = there.views.get(node)
    if view is None or entry is None or pod is None or pod.node != node:
        return STARTING
    if not view.realized((entry.id,)):
        return STARTING
    held = there.unready.get(come.uid)
    if held is None or unready:
        return ""
    return f"the VM's next pod is bound to {node}, and not Ready: {held}"


def held_up(order: Order, there: There) -> str:
    """Return why the VM under way is not Ready where its pod has come; "" where that is not so."""
    leg, departure = order.leg, order.departed
    if leg is None or departure is None or order.ending is not None:
        return ""
    come = its_own(there.at(leg.target), leg)
    if come is None or there.lives(departure.pod.uid) or there.over(come.uid):
        return ""
    found = not_arrived(leg, come, there, unready=departure.unready)
    return "" if found == STARTING else found


def on_its_way(order: Order, there: There) -> bool:
    """Tell whether the VM under way leaves, or has left: no policy can have it stay any more.

    So it is with one whose migration has a pod where it is to go.
    """
    leg, departure = order.leg, order.departed
    if leg is None or departure is None:
        return False
    leaving = there.pods.get(departure.pod.uid)
    if leaving is None or leaving.over or leaving.deleting:
        return True
    return its_own(there.at(leg.target), leg) is not None
