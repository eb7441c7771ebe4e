"""Which places are to be claimed by now, and what is in the way of that.

They are those of waiting pods, and those that an earlier move vacates for a later one.

A claim may lie over the places of those whom the order moves away, and of nobody else: whoever
came there since the plan was made would stay, and all moves would be in vain.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from extender.claims import is_claim
from extender.moving.order import Order, Seat
from extender.moving.there import There
from nodeagent.api.gpunode import Assignment


class Obstacle(msgspec.Struct, frozen=True):
    """Why a place cannot be claimed; ``passes``: that may end by itself."""

    why: str
    passes: bool


class Unclaimed(NamedTuple):
    """Claims to be written, with their nodes, and the worst of what is in the way of others."""

    missing: tuple[tuple[str, Assignment], ...]
    obstacle: Obstacle | None


def unclaimed(order: Order, there: There) -> Unclaimed:
    """Return what is still to be claimed for pods and later moves, as far as that may be by now."""
    missing, obstacles = [], []
    for node, entry in (*_for_pods(order, there), *_for_later_moves(order, there)):
        obstacle = _obstacle(order, node, entry, there)
        if obstacle is None:
            missing.append((node, entry))
        else:
            obstacles.append(obstacle)
    return Unclaimed(tuple(missing), min(obstacles, key=lambda each: each.passes, default=None))


def _for_pods(order: Order, there: There) -> Iterator[tuple[str, Assignment]]:
    for node, entry, uid in order.claims():
        if there.waits(uid) and not there.held(node, entry.id):
            yield node, entry


def _for_later_moves(order: Order, there: There) -> Iterator[tuple[str, Assignment]]:
    """Yield what is to be kept for moves whose targets cannot be held yet as they are to be."""
    at_once = {entry.id for _, entry in order.holds()}
    for at, node, entry in order.ahead():
        held = order.id_of(at)
        if there.held(node, entry.id) or there.held(node, held):
            continue
        if held not in at_once or not there.free(order.legs[at].target, entry.resource):
            yield node, entry


def _obstacle(order: Order, node: str, claim: Assignment, there: There) -> Obstacle | None:
    view = there.views.get(node)
    if view is None:
        return Obstacle(f"{node}, where a pod was to go, is no more", passes=False)
    if not view.takes_new:
        return Obstacle(f"{node}, where a pod is to go, takes nothing new now", passes=True)
    worst = None
    for other in view.in_force:
        overlaps = other.gpu == claim.gpu and other.placement.mask & claim.placement.mask
        found = _in_the_way(order, node, claim, other, there) if overlaps else None
        if found is not None and (worst is None or worst.passes):
            worst = found
    return worst


def _in_the_way(
    order: Order, node: str, claim: Assignment, entry: Assignment, there: There
) -> Obstacle | None:
    """Tell why a claim may not be written over an entry.

    Over what somebody leaves it may: else another would get that first.
    """
    if entry.pod is None:
        if order.owns(entry):
            return None
        if is_claim(entry):
            own = entry.owner == claim.owner
            return Obstacle("somebody else is to leave that place for a pod", passes=own)
        return Obstacle("what a pod is to have is held for another that restarts", passes=True)
    pod = there.pods.get(entry.pod.uid)
    if pod is None:  # gone, or without the label by which it is watched: reclaim reads which
        return Obstacle("it is not known yet whether the pod there still runs", passes=True)
    if pod.over:
        return None
    seat = Seat(node, entry.gpu, entry.profile_id, entry.start, entry.size)
    if any((leg.owner, leg.source) == (entry.owner, seat) for leg in order.legs[order.at :]):
        return None
    return Obstacle("another has come to the place that was to be made", passes=pod.deleting)
