"""GPUs that are alike, taken together: by whom is on them, or only by which slices are taken.

Where nobody else on a GPU is going to move, it matters which slices are taken, and not by whom.
There are hundreds of ways to take slices, and thousands in which VMs may have done it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from extender.packing.relocation import Host, state, windows
from extender.packing.tables import Tables
from nodeagent.api.geometry import Occupancy, Placement, Profile

ENOUGH = 16
"""GPUs of each kind that are told apart: a plan of few moves touches fewer."""


class Clearing(NamedTuple):
    """A window, and the placements of those who must leave it; on GPUs alike in that."""

    members: Sequence[int]
    placement: Placement
    leaving: frozenset[Placement]


class Free(NamedTuple):
    """A free placement, what it costs and how its GPU is filled (negative); on GPUs alike in it."""

    cost: int
    tie: int
    members: Sequence[int]
    placement: Placement


class _Class(NamedTuple):
    tables: Tables
    serves: Mapping[str, int]
    state: Occupancy
    members: list[int]

    def profile(self, resource: str) -> Profile | None:
        profile_id = self.serves.get(resource)
        return None if profile_id is None else self.tables.geometry.by_id.get(profile_id)


class Alike:
    """The *hosts*, by their index, as they are at the start."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self._hosts = hosts
        self._known: dict[object, _Class] = {}
        self._filled: dict[object, _Class] = {}
        for index, host in enumerate(hosts):
            contents = tuple([each[1:] for each in host.occupants])
            key = (id(host.tables), id(host.serves), contents)
            known = self._known.get(key)
            if known is None:
                now = state(host.tables, host.occupants)
                known = self._known[key] = _Class(host.tables, host.serves, now, [])
            if len(known.members) >= ENOUGH:
                continue
            known.members.append(index)
            apart = any(each.apart for each in host.occupants)
            state_key = (id(host.tables), id(host.serves), known.state, apart)
            filled = self._filled.get(state_key)
            if filled is None:
                filled = _Class(host.tables, host.serves, known.state, [])
                self._filled[state_key] = filled
            if len(filled.members) < ENOUGH:
                filled.members.append(index)
        self._clearings: dict[tuple[str, int, bool], Sequence[Clearing]] = {}
        self._free: dict[tuple[str, bool], Sequence[Free]] = {}

    def clearings(
        self, resource: str, moves: int, *, tight: bool, wanted: bool = False
    ) -> Sequence[Clearing]:
        """Return what may be cleared for a resource by so many moves; the fewest spare ones first.

        *tight*: there is no move beyond these. *wanted*: it is what room is made for.
        """
        key = (resource, moves, tight)
        known = self._clearings.get(key)
        if known is None:
            found: dict[object, Clearing] = {}
            for alike in self._known.values():
                self._clear(found, alike, resource, moves, tight=tight, wanted=wanted)
            ordered = sorted(found.values(), key=lambda each: -len(each.leaving))
            known = self._clearings[key] = ordered
        return known

    def _clear(
        self,
        found: dict[object, Clearing],
        alike: _Class,
        resource: str,
        moves: int,
        *,
        tight: bool,
        wanted: bool,
    ) -> None:
        profile = alike.profile(resource)
        if profile is None:
            return
        contents = self._hosts[alike.members[0]].occupants
        geometry = alike.tables.geometry
        for placement, overlapped in windows(geometry, profile, contents, wanted=wanted):
            if not 0 < len(overlapped) <= moves or not all(each.movable for each in overlapped):
                continue
            leaving = frozenset(each.placement for each in overlapped)
            key: object = (id(alike), placement, leaving)
            if tight and len(overlapped) == moves:
                who = tuple(each[1:4] for each in overlapped)
                key = (id(alike.tables), id(alike.serves), alike.state, placement, who)
            known = found.get(key)
            if known is None:
                found[key] = Clearing(list(alike.members), placement, leaving)
            elif len(known.members) < ENOUGH:
                assert isinstance(known.members, list)
                known.members.extend(alike.members)

    def free(self, resource: str, *, tight: bool, wanted: bool = False) -> Sequence[Free]:
        """Return the free placements for a resource, the cheapest first.

        *tight*: nobody is going to move on their GPUs. *wanted*: it is what room is made for.
        """
        key = (resource, tight)
        known = self._free.get(key)
        if known is None:
            found = []
            for alike in (self._filled if tight else self._known).values():
                profile = alike.profile(resource)
                if profile is None or (wanted and self._keeps_apart(alike)):
                    continue
                tie = -alike.state.mask.bit_count()
                found += [
                    Free(each.cost, tie, alike.members, each.placement)
                    for each in alike.tables.options(alike.state, profile)
                ]
            known = self._free[key] = sorted(
                found, key=lambda each: (each.cost, each.tie, each.members[0], each.placement)
            )
        return known

    def _keeps_apart(self, alike: _Class) -> bool:
        return any(each.apart for each in self._hosts[alike.members[0]].occupants)
