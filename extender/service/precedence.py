"""Whose places go first: what a plan is to have before anything else is added to it.

A kubelet knows of no plan. To a pod that is in none it may give what is made for the next that asks
for the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from extender.service.knowledge import Knowledge
from extender.snapshot import NodeView
from extender.succession import meets
from nodeagent.api.gpunode import Assignment

LOST = "what other pods had in the plan before is to be written again first"
ARRIVING = "a pod is on its way to the node that no plan knows"


def why_not_yet(knowledge: Knowledge, view: NodeView, added: Sequence[Assignment]) -> str:
    """Return why entries may not be added to a node's plan yet, "" if they may."""
    if not added:
        return ""
    if _others_have_lost(knowledge, view.name, added):
        return LOST
    return ARRIVING if _others_arrive(knowledge, view, added) else ""


def _others_have_lost(knowledge: Knowledge, node: str, added: Sequence[Assignment]) -> bool:
    """Tell whether other pods' entries of a plan that is gone are yet to be written again.

    A pod that runs, or has not come to be bound in its time, keeps others from its places alone.
    """
    pods = {each.pod for each in added}
    for each in knowledge.lost.get(node, ()):
        if each.pod is None or each.pod in pods:
            continue
        known = knowledge.pods.get(each.pod.uid)
        admitted = known is not None and known.phase == "Running"
        unbound = known is not None and not known.node
        out_of_time = unbound and knowledge.lost_reservation_over(node, each.pod.uid)
        if not (admitted or out_of_time) or meets(each, added):
            return True
    return False


def _others_arrive(knowledge: Knowledge, view: NodeView, added: Sequence[Assignment]) -> bool:
    """Tell whether a pod that is in no plan, for whatever reason, is on its way to the node.

    For no longer than a reservation lasts: whoever has not come by then may never come.
    """
    planned = {each.pod.uid for each in added if each.pod is not None}
    arriving = knowledge.arriving.on(view.name, within=knowledge.settings.reservation_seconds)
    return any(uid not in planned and not view.assignments_of(uid) for uid in arriving)
