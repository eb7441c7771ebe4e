"""bind: which GPU and which slices of the node the scheduler chose; and the words of the plan."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from extender.ledger import Ledger
from extender.packing.choose import Choice
from extender.request import Request
from extender.snapshot import NodeView
from extender.verbs.inherit import inherited
from extender.verbs.planned import planned
from extender.verbs.verdicts import Fits, Refused, best
from nodeagent.api.gpunode import Assignment, Decision


def place(view: NodeView, ledger: Ledger, request: Request) -> Choice | Refused:
    """Choose the places on a node: those held, those planned, or else the best that are left.

    What is presumed for others is avoided where that is possible.
    """
    destined = inherited(view, ledger, request) or planned(view, ledger, request)
    if destined is not None:
        return destined
    match best(view, ledger, request).verdict:
        case Fits(choice=choice):
            return choice
        case Refused() as why:
            return why


def assignments(
    request: Request, choice: Choice, *, ids: Iterable[str], since: str
) -> tuple[Assignment, ...]:
    """Return the plan's entries for a choice, one for each GPU instance."""
    return tuple(
        Assignment(
            id=each_id,
            gpu=placed.uuid,
            profile_id=placed.profile_id,
            start=placed.placement.start,
            size=placed.placement.size,
            resource=placed.wanted,
            since=since,
            pod=request.pod,
            owner=request.owner,
        )
        for placed, each_id in zip(choice.placed, ids, strict=False)
    )


def annotation(view: NodeView, entries: Sequence[Assignment], policy_version: str) -> str:
    """Return a pod's decision as its annotation: a JSON list, one element for each instance."""
    return msgspec.json.encode(
        [
            Decision(
                id=each.id,
                gpu=each.gpu,
                profile=view.profile_named(each.gpu, each.profile_id),
                profile_id=each.profile_id,
                start=each.start,
                size=each.size,
                resource=each.resource,
                policy_version=policy_version,
            )
            for each in entries
        ]
    ).decode()
