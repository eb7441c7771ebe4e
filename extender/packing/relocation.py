"""GPUs with who is on them, and what becomes of them as things move."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from extender.packing.tables import Tables
from nodeagent.api.geometry import Geometry, Occupancy, Placement, Profile


class Occupant(NamedTuple):
    """A GPU instance that exists or is promised; ``movable`` if its VM may be moved.

    ``reserved``: it is not there yet. ``apart``: what room is made for may not be on one GPU with
    it, however much room there is.
    """

    id: str
    resource: str
    profile_id: int
    placement: Placement
    movable: bool = True
    reserved: bool = False
    apart: bool = False


Contents = tuple[Occupant, ...]
"""All that is on a GPU."""


class Host(msgspec.Struct, frozen=True, gc=False):
    """A GPU with all that is on it. ``serves`` maps resources to profile ids, as for a bin."""

    uuid: str
    tables: Tables
    serves: Mapping[str, int]
    occupants: Contents = ()


class Move(NamedTuple):
    """One occupant's move, to a placement that is free at that moment; GPUs by index."""

    occupant: str
    source: int
    target: int
    placement: Placement


class Course(NamedTuple):
    """Contents that differ from the start, moves so far, and who is on the way.

    ``parked``: who stands where something else is to be, with the GPU.
    """

    changed: Mapping[int, Contents]
    moves: tuple[Move, ...] = ()
    busy: frozenset[str] = frozenset()
    parked: tuple[tuple[int, Occupant], ...] = ()

    def reserving(self, gpu: int, contents: Contents, occupant: Occupant) -> Course:
        """Return the course with a place kept for an occupant beside a GPU's *contents*."""
        return self._replace(changed={**self.changed, gpu: (*contents, occupant)})

    def moved(self, occupant: Occupant, source: int, target: int, placement: Placement) -> Course:
        """Return the course after a move to a place that was kept for the occupant."""
        changed = dict(self.changed)
        changed[source] = tuple(each for each in changed[source] if each != occupant)
        changed[target] = tuple(
            each._replace(reserved=False) if each.id == occupant.id and each.reserved else each
            for each in changed[target]
        )
        move = Move(occupant.id, source, target, placement)
        return self._replace(changed=changed, moves=(*self.moves, move))


def reserved(id: str, resource: str, profile: Profile, placement: Placement) -> Occupant:
    """Return what keeps a place for somebody who is not there yet."""
    return Occupant(id, resource, profile.id, placement, movable=False, reserved=True)


def windows(
    geometry: Geometry, profile: Profile, contents: Contents, *, wanted: bool = False
) -> Iterator[tuple[Placement, Contents]]:
    """Yield each placement of a profile with what must leave the GPU for it.

    *wanted*: it is for what room is made for, which keeps apart from some.
    """
    for placement in profile.placements:
        mask = placement.mask
        overlapped = tuple(
            each for each in contents if each.placement.mask & mask or (wanted and each.apart)
        )
        if not profile.limited:
            yield placement, overlapped
            continue
        same = [e for e in contents if e.profile_id == profile.id and e not in overlapped]
        too_many = max(0, len(same) - profile.max_instances + 1)
        for more in itertools.combinations(same, too_many):
            yield placement, (*overlapped, *more)


def state(tables: Tables, contents: Contents) -> Occupancy:
    """Return the state of a GPU with these contents."""
    return tables.holding((each.profile_id, each.placement) for each in contents)


def worth(tables: Tables, contents: Contents) -> int:
    """Return what a GPU with these contents is worth to the future."""
    return tables.worth(state(tables, contents))
