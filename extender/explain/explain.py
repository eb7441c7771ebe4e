"""Everything there is to say of one pod, worked out from one situation."""

from __future__ import annotations

from collections.abc import Mapping

from extender.explain.asked import alternatives, asked, sizes
from extender.explain.board import Stays, settled
from extender.explain.census import Census
from extender.explain.cleared import cleared
from extender.explain.explanation import Explanation, Lack, Missing, Moves, NoMoves, State, Staying
from extender.explain.groups import WAITS, groups, missing
from extender.explain.placed import here
from extender.explain.rights import rights
from extender.explain.room import MOST_LOOKS, making_room
from extender.explain.situation import Situation, judgements
from extender.snapshot import NodeView
from extender.verbs.reasons import no_room
from extender.verbs.verdicts import (
    GANG_INCOMPLETE,
    GANG_MALFORMED,
    GANG_NO_ROOM,
    PLANNING,
    Refused,
)
from nodeagent.api.gpunode import PodRef

HELPED_BY_ROOM = frozenset({Lack.CAPACITY, Lack.FRAGMENTATION})
"""What moves may help against."""

_WAITS = {each.code: each for each in (GANG_INCOMPLETE, GANG_MALFORMED, GANG_NO_ROOM, PLANNING)}


def explain(situation: Situation, *, most_looks: int = MOST_LOOKS) -> Explanation:
    """Explain how a pod stands, which is on the node where the plan has a place for it, or waits.

    Each node is judged once for the pod; room for few other profiles is counted over GPUs that are
    alike (``census``); moves are looked for on a bounded number of GPUs (``board``, ``room``).
    """
    judged = tuple(judgements(situation))
    known = sizes(situation.views.values())
    wanted = asked(situation.request, known)
    placed = next(iter(situation.places), None)
    refused = placed is None and not any(each.fits for each in judged)
    census = Census(situation, judged if refused else ())
    lacks = missing(situation, judged, wanted, census) if placed is None else None
    room: Moves | NoMoves | None = None
    staying: Mapping[Stays, int] = {}
    if lacks is not None and lacks.lack in HELPED_BY_ROOM:
        room, there = making_room(situation, census, most_looks=most_looks)
        staying = there.staying
    pod = situation.request.pod
    return Explanation(
        pod.namespace,
        pod.name,
        pod.uid,
        _state(lacks),
        situation.policy,
        situation.policy_version,
        nodes=len(situation.views),
        gpus=sum(len(view.node.status.gpus) for view in situation.views.values()),
        reason=_reason(situation, lacks),
        asked=wanted,
        groups=groups(situation, judged),
        missing=lacks,
        room=room,
        staying=tuple(Staying(*each) for each in settled(staying)),
        alternatives=alternatives(situation, known, judged, census) if refused else (),
        rights=rights(situation, known),
        here=None if placed is None else here(situation, placed, judged),
        cleared=cleared(situation) if placed is None else None,
    )


def explain_none(
    pod: PodRef,
    state: State,
    reason: str,
    views: Mapping[str, NodeView],
    *,
    policy: str,
    version: str,
) -> Explanation:
    """Explain a pod that no node is judged for: it has ended, or asks for nothing that can be."""
    return Explanation(
        pod.namespace,
        pod.name,
        pod.uid,
        state,
        policy,
        version,
        nodes=len(views),
        gpus=sum(len(view.node.status.gpus) for view in views.values()),
        reason=reason.removeprefix("vGPU: "),
    )


def _state(lacks: Missing | None) -> State:
    if lacks is None:
        return State.PLACED
    return State.FITS if lacks.lack is Lack.NOTHING else State.REFUSED


def _reason(situation: Situation, lacks: Missing | None) -> str:
    """Return the first thing to say: as kube-scheduler was told it, where it was told."""
    if lacks is None or lacks.lack is Lack.NOTHING:
        return ""
    if lacks.lack is Lack.WAITING:
        told: Refused = _WAITS[min(situation.told & WAITS)]
        return told.reason.removeprefix("vGPU: ")
    if lacks.lack in HELPED_BY_ROOM:
        return no_room(situation.request.wanted, situation.request.spread).reason.removeprefix(
            "vGPU: "
        )
    return ""
