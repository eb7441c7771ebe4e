"""Where pods really are, where the kubelet picks among devices: the plan follows.

With Harvester's device plugin the kubelet takes whichever free device there is. Among several that
VMs keep, or that a static layout has, that is not always the one that was planned. The agent tells;
the entries are exchanged for such as say so, in one write. Whose place has been taken has the one
that was left for it, if there is one; else its entry goes, and its pod is placed anew.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from extender.snapshot import Held, NodeView, Taken, taken_by
from nodeagent.api.gpunode import Assignment


class Correction(msgspec.Struct, frozen=True):
    """An entry that is to go, and what it ``becomes``, but for the id; None for nothing."""

    entry: Assignment
    becomes: Assignment | None


def corrections(view: NodeView) -> tuple[Correction, ...]:
    """Return what the plan of a node has to say otherwise; nothing where all is as planned."""
    held = {Taken(each.gpu, each.profile_id, each.placement): each for each in view.held_devices}
    if not held:
        return ()
    moves: dict[str, Taken] = {}
    displaced: list[Assignment] = []
    for entry in view.node.spec.assignments:
        if entry.pod is None:
            continue
        there = held.get(taken_by(entry))
        if there is None or there.pod.uid == entry.pod.uid:
            continue
        displaced.append(entry)  # somebody else has what was meant for it
    for uid in {each.pod.uid for each in held.values()}:
        moves |= dict(_moved(view, uid, held))
    if not moves and not displaced:
        return ()
    by_id = {entry.id: entry for entry in view.node.spec.assignments}
    left = [taken_by(by_id[id]) for id in moves]
    vacated = [place for place in left if place not in held]
    found = [Correction(by_id[id], _at(by_id[id], place)) for id, place in moves.items()]
    for entry in displaced:
        if entry.id in moves:
            continue
        place = next((it for it in vacated if it.profile_id == entry.profile_id), None)
        if place is not None:
            vacated.remove(place)
        found.append(Correction(entry, _at(entry, place) if place else None))
    return tuple(found)


def _moved(view: NodeView, uid: str, held: dict[Taken, Held]) -> Iterator[tuple[str, Taken]]:
    """Yield the id of each entry of a pod that is elsewhere, and where.

    The agent tells of all that a pod has, if any of it is not as planned.
    """
    has = {place: each for place, each in held.items() if each.pod.uid == uid}
    entries = view.assignments_of(uid)
    right = {taken_by(entry) for entry in entries} & has.keys()
    wrong = [entry for entry in entries if taken_by(entry) not in right]
    for place in sorted(has.keys() - right, key=lambda it: (it.gpu, it.placement)):
        entry = next((it for it in wrong if it.resource == has[place].resource), None)
        if entry is not None:
            wrong.remove(entry)
            yield entry.id, place


def _at(entry: Assignment, place: Taken) -> Assignment:
    return msgspec.structs.replace(
        entry,
        gpu=place.gpu,
        profile_id=place.profile_id,
        start=place.placement.start,
        size=place.placement.size,
    )
