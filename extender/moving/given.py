"""An order made of a plan, and what tells one plan from another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import msgspec

from extender.advice.asked import Asked
from extender.advice.errands import Errands
from extender.moving.order import Admitted, Leg, Order, Seat
from nodeagent.api.geometry import Placement

_DIGEST_DIGITS = 16


def order_of(
    id: str,
    errands: Errands,
    *,
    since: str,
    goals: Sequence[str],
    by: str = "",
    asked: Asked | None = None,
    for_pods: bool = False,
    begun: Sequence[str] = (),
) -> Order:
    """Return the order to run the *errands* of a plan.

    *asked* are the goals; *for_pods*: for pods that wait, and nothing else.
    """
    return Order(
        id=id,
        digest=digest(errands),
        since=since,
        goals=tuple(goals),
        by=by,
        legs=tuple(_legs(errands)),
        places=tuple(_places(errands)),
        asked=asked,
        for_pods=for_pods,
        begun=tuple(begun),
    )


def digest(errands: Errands) -> str:
    """Return what tells a plan from every other: equal for the same moves of the same pods."""
    told = msgspec.json.encode((tuple(_legs(errands)), tuple(_places(errands))))
    return hashlib.sha256(told).hexdigest()[:_DIGEST_DIGITS]


def _legs(errands: Errands) -> Iterator[Leg]:
    for each in errands.moves:
        entry, move = each.entry, each.move
        assert entry.owner is not None  # or nobody would make its pod anew, and it would stay
        assert entry.pod is not None
        yield Leg(
            owner=entry.owner,
            pod=entry.pod,
            resource=entry.resource,
            source=_seat(each.source, move.source, entry.profile_id, move.left),
            target=_seat(each.target, move.target, entry.profile_id, move.placement),
        )


def _places(errands: Errands) -> Iterator[Admitted]:
    for each in errands.places:
        place, (resource,) = each.place, each.request.wanted
        seat = _seat(each.node, place.gpu, place.profile_id, place.placement)
        yield Admitted(each.request.pod, resource, seat)


def _seat(node: str, gpu: str, profile_id: int, placement: Placement) -> Seat:
    return Seat(node, gpu, profile_id, placement.start, placement.size)
