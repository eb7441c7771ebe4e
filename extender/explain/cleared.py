"""The place that is being cleared for a pod, and who has yet to leave it."""

from __future__ import annotations

from extender.claims import claims_of, in_the_way, is_claim, is_move
from extender.explain.explanation import Cleared
from extender.explain.situation import Situation


def cleared(situation: Situation) -> Cleared | None:
    """Return the place that a pod has claimed, None if it has claimed none.

    Who leaves is counted and not named: not everybody may know of other namespaces' pods.
    """
    bounds = situation.request.bounds
    terms = None if bounds is None else bounds.terms
    for view in situation.views.values():
        if not any(map(is_claim, view.reservations)):
            continue
        own = claims_of(view, situation.uid)
        if own:
            there = in_the_way(view, own, terms)
            known = (situation.pods.get(uid) for uid in there)
            ending = sum(pod is not None and pod.deleting for pod in known)
            return Cleared(view.name, len(there), ending, moved=any(map(is_move, own)))
    return None
