"""Where pods really are, where the kubelet picks among devices: the plan follows.

With Harvester's device plugin the kubelet takes whichever free device there is. Among several that
VMs keep, or that a static layout has, that is not always the one that was planned. The agent tells;
the entries are exchanged for such as say so, in one write. Whose place has been taken has one that
was left, if there is one; else its entries go, and its pod is placed anew.

So each device that a pod has is accounted for once: by an entry that says so, by one that is to be
exchanged (:func:`corrections`), or, where its pod has none left for it, by one that is to be added
(:func:`adoptable`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import groupby

import msgspec

from extender.snapshot import Held, NodeView, Taken, taken_by
from nodeagent.api.gpunode import Assignment, Mode


class Correction(msgspec.Struct, frozen=True):
    """An entry that is to go, and what it ``becomes``, but for the id; None for nothing."""

    entry: Assignment
    becomes: Assignment | None


def corrections(view: NodeView) -> tuple[Correction, ...]:
    """Return what the plan of a node has to say otherwise; nothing where all is as planned."""
    if not view.held_devices:
        return ()
    moves = dict(_moves(view))
    plan = [each for each in view.node.spec.assignments if each.id not in view.lapsed]
    moved = [each for each in plan if each.id in moves]
    held = [_place(each) for each in view.held_devices]
    vacated = [each for each in moved if not _meets(taken_by(each), held)]
    found = [Correction(each, _at(each, moves[each.id])) for each in moved]
    for lost in _displaced(view, plan, moves):
        places = _left_for(lost, vacated)
        if places:
            vacated = [each for each in vacated if each not in places.values()]
            found += [Correction(each, _at(each, taken_by(places[each.id]))) for each in lost]
        else:
            found += [Correction(each, None) for each in _with_the_rest(lost, view, moves)]
    return tuple(found)


def adoptable(view: NodeView) -> tuple[Held, ...]:
    """Return what pods have of which the plan says nothing, so that entries are to be added.

    That is what they had before Tangram came, or were given after their entries had gone. What an
    entry of theirs is to be exchanged for is none of it: with two entries for one device, a pod
    would be taken for one that has yet to be given another, and all others would wait for it.
    """
    if not view.held_devices:
        return ()
    exchanged = dict(_moves(view)).values() if view.node.status.mode is Mode.HARVESTER else ()
    planned = [taken_by(each) for each in view.node.spec.assignments if each.pod is not None]
    return tuple(
        each
        for each in view.held_devices
        if _place(each) not in exchanged and not _meets(_place(each), planned)
    )


def in_their_place(view: NodeView, entries: Collection[Assignment]) -> tuple[str, ...]:
    """Return the ids of reservations where pods turn out to be: who has it has the better right."""
    theirs = [taken_by(each) for each in entries]
    return tuple(each.id for each in view.reservations if _meets(taken_by(each), theirs))


def _moves(view: NodeView) -> Iterator[tuple[str, Taken]]:
    """Yield the id of each entry whose pod is elsewhere, and where.

    The agent tells of all that a pod has, if any of it is not as planned.
    """
    for uid in sorted({each.pod.uid for each in view.held_devices}):
        has = {_place(each): each for each in view.held_devices if each.pod.uid == uid}
        entries = view.assignments_of(uid)
        right = {taken_by(entry) for entry in entries} & has.keys()
        wrong = [entry for entry in entries if taken_by(entry) not in right]
        for place in sorted(has.keys() - right, key=lambda it: (it.gpu, it.placement)):
            entry = next((it for it in wrong if it.resource == has[place].resource), None)
            if entry is not None:
                wrong.remove(entry)
                yield entry.id, place


def _displaced(
    view: NodeView, plan: Iterable[Assignment], moves: Mapping[str, Taken]
) -> Iterator[tuple[Assignment, ...]]:
    """Yield, by pod, the entries of which others have what they say; reservations come last.

    A reservation gives way only to who is planned in its place: it is nobody's yet.
    """

    def is_lost(entry: Assignment) -> bool:
        if entry.pod is None:
            return _meets(taken_by(entry), moves.values())
        others = (e for e in view.held_devices if e.pod.uid != entry.pod.uid)
        return _meets(taken_by(entry), map(_place, others))

    lost = sorted((it for it in plan if it.id not in moves and is_lost(it)), key=_whose)
    for _, entries in groupby(lost, key=_whose):
        yield tuple(entries)


def _whose(entry: Assignment) -> tuple[bool, str]:
    return (True, entry.id) if entry.pod is None else (False, entry.pod.uid)


def _left_for(lost: Iterable[Assignment], vacated: Iterable[Assignment]) -> dict[str, Assignment]:
    """Return whose place each of the entries *lost* may have, by its id; nothing if not all can."""
    left, found = list(vacated), {}
    for entry in lost:
        place = next((it for it in left if it.resource == entry.resource), None)
        if place is None:
            return {}
        left.remove(place)
        found[entry.id] = place
    return found


def _with_the_rest(
    lost: Collection[Assignment], view: NodeView, moves: Mapping[str, Taken]
) -> Iterator[Assignment]:
    """Yield the entries *lost*, and all else of their pod that it is not known to have.

    A pod is placed whole.
    """
    yield from lost
    for pod in {each.pod.uid for each in lost if each.pod is not None}:
        has = [_place(each) for each in view.held_devices if each.pod.uid == pod]
        for each in view.assignments_of(pod):
            if each not in lost and each.id not in moves and taken_by(each) not in has:
                yield each


def _place(held: Held) -> Taken:
    return Taken(held.gpu, held.profile_id, held.placement)


def _meets(place: Taken, others: Iterable[Taken]) -> bool:
    return any(
        place.gpu == each.gpu and place.placement.mask & each.placement.mask for each in others
    )


def _at(entry: Assignment, place: Taken) -> Assignment:
    return msgspec.structs.replace(
        entry,
        gpu=place.gpu,
        profile_id=place.profile_id,
        start=place.placement.start,
        size=place.placement.size,
    )
