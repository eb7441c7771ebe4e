"""Which places are being cleared for a pod, as kube-scheduler may be told from 1.38 on.

Of that node filter says "failed", and preempt names who leaves it: kube-scheduler nominates the pod
for the node, and to nobody below it gives the CPU and memory that these leave. It ends none of
them, for it passes over victims that are about to go (``pkg/scheduler/framework/preemption``,
``executor.go`` of 1.38.0-beta.0); so there is one who preempts, the leader.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from extender.claims import claims_of, in_the_way, is_move
from extender.request import Request
from extender.service.knowledge import Knowledge


def clearing(knowledge: Knowledge, request: Request, names: Collection[str]) -> str:
    """Return which of the named nodes a place is being cleared on for a pod, "" for none."""
    if not knowledge.settings.nominates:
        return ""
    there = (node for node in sorted(knowledge.holds.claimed) if node in names)
    return next((node for node in there if leaving(knowledge, request, node)), "")


def leaving(knowledge: Knowledge, request: Request, node: str) -> Sequence[str]:
    """Return who leaves a node, evicted for a pod that has claimed a place there, by UID.

    Nobody before all leave who are in the way: until then it may be given up.
    """
    view = knowledge.views.get(node)
    own = () if view is None else claims_of(view, request.pod.uid)
    if view is None or not own or any(map(is_move, own)) or not request.preempts:
        return ()
    bounds = knowledge.bounded(request).bounds
    there = in_the_way(view, own, None if bounds is None else bounds.terms)
    known = {uid: knowledge.pods.get(uid) for uid in there}
    # kube-scheduler takes no victim that is not on that very node.
    if not all(each and each.deleting and each.node == node for each in known.values()):
        return ()
    return sorted(known)
