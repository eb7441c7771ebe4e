"""Making room: the fewest moves after which one more GPU instance fits.

Goal-directed and exact in the number of moves: a window of the wanted profile is reserved, whatever
overlaps it is moved elsewhere, and where that has no place either, room is made for it first, in
the same way. Depth is tried from none upwards, so the first answer takes the fewest moves; among
those, the one after which the GPUs are worth most is taken. Targets are free when a move begins:
they can be reserved before anything is stopped, and each state on the way is legal.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Sequence

import msgspec

from extender.packing.alike import Alike
from extender.packing.relocation import (
    Contents,
    Course,
    Host,
    Move,
    Occupant,
    reserved,
    state,
    windows,
    worth,
)
from extender.packing.tables import Tables
from nodeagent.api.geometry import Occupancy, Placement, Profile


class Room(msgspec.Struct, frozen=True):
    """Where the wanted instance goes after the ``moves``, in this order.

    ``gain`` is what all GPUs are worth more (or less) afterwards, the instance placed.
    """

    gpu: int
    placement: Placement
    moves: tuple[Move, ...]
    gain: int


class NoRoom(msgspec.Struct, frozen=True):
    """No plan of at most so many moves; ``proven`` unless the search was cut short."""

    proven: bool


WANTED = ""
"""The id of the wanted instance among occupants."""

FEWEST_WITH_PARKING = 3
"""Moves: whoever is parked moves twice, so that somebody else can move meanwhile."""


def make_room(
    hosts: Sequence[Host],
    wanted: str,
    *,
    most_moves: int,
    most_looks: int = 100_000,
    most_better: int | None = None,
) -> Room | NoRoom:
    """Return the best of the plans with the fewest moves after which *wanted* fits.

    ``most_looks`` bounds the work: windows and places looked at. When it is used up, what was found
    so far with the number of moves being tried is the answer; likewise when, after a first plan,
    ``most_better`` more were looked at for one that takes as few moves and leaves more.
    """
    search = _Search(hosts, most_looks, most_better)
    for moves in range(most_moves + 1):
        for parking in (False, True) if moves >= FEWEST_WITH_PARKING else (False,):
            found = search.best(wanted, moves, parking=parking)
            if found is not None:
                return found
            if search.exhausted:
                return NoRoom(proven=False)
    return NoRoom(proven=True)


class _Search:
    def __init__(self, hosts: Sequence[Host], looks: int, better: int | None) -> None:
        self._hosts = hosts
        self._looks = looks
        self._better = better
        self._alike = Alike(hosts)
        self._possible: dict[tuple[str, int], bool] = {}
        self._start = Course({})
        self._states: dict[int, tuple[Contents, Occupancy]] = {}
        self._parking = False
        self._wanted = ""

    @property
    def exhausted(self) -> bool:
        """Whether no work is left to be done."""
        return self._looks <= 0

    def best(self, wanted: str, moves: int, *, parking: bool) -> Room | None:
        """Return the plan of exactly so many moves that leaves the GPUs worth most.

        With *parking*, one of them may stand for a while where something else is to be.
        """
        best: Room | None = None
        self._parking, self._wanted = parking, wanted
        self._possible.clear()
        for gpu, placement, course in self._rooms(wanted, WANTED, moves, self._start, tight=True):
            gain = sum(
                worth(self._hosts[at].tables, contents)
                - worth(self._hosts[at].tables, self._hosts[at].occupants)
                for at, contents in course.changed.items()
            )
            if best is None and self._better is not None:
                self._looks = min(self._looks, self._better)
            if best is None or gain > best.gain:
                best = Room(gpu, placement, course.moves, gain)
            if not moves or self.exhausted:
                break
        return best

    def _rooms(
        self, resource: str, id: str, moves: int, course: Course, *, tight: bool
    ) -> Iterator[tuple[int, Placement, Course]]:
        """Yield (GPU, placement, course with it reserved) after exactly so many more moves.

        Of the ways to clear a window for what is wanted, the first that is found. *tight*: nothing
        moves afterwards but to places that are free by then.
        """
        if not moves:
            yield from self._free(resource, id, course, tight=tight)
            return
        for gpu, placement, leaving in self._windows(resource, moves, course, tight=tight):
            self._looks -= 1
            if self.exhausted:
                return
            profile = self._profile(gpu, resource)
            assert profile is not None  # or it would have no windows
            kept = reserved(id, resource, profile, placement)
            then = course.reserving(gpu, self._contents(gpu, course), kept)
            for order in itertools.permutations(leaving):
                cleared = self._cleared(gpu, order, moves, then, tight=tight)
                if id != WANTED:
                    yield from ((gpu, placement, each) for each in cleared)
                    continue
                everybody = itertools.chain.from_iterable(map(self._unparked, cleared))
                first = next(everybody, None)
                if first is not None:
                    yield gpu, placement, first
                    break

    def _windows(
        self, resource: str, moves: int, course: Course, *, tight: bool
    ) -> Iterator[tuple[int, Placement, Contents]]:
        """Yield windows that so many moves may clear, with who must leave them.

        One of each kind on GPUs that are untouched, then all on those touched.
        """
        wanted = resource == self._wanted
        for members, placement, leaving in self._alike.clearings(
            resource, moves, tight=tight, wanted=wanted
        ):
            gpu = _untouched(members, course)
            if gpu is not None:
                there = self._hosts[gpu].occupants
                yield gpu, placement, tuple(e for e in there if e.placement in leaving)
        for gpu, contents in course.changed.items():
            profile = self._profile(gpu, resource)
            if profile is None:
                continue
            for placement, overlapped in windows(
                self._hosts[gpu].tables.geometry, profile, contents, wanted=wanted
            ):
                if 0 < len(overlapped) <= moves and all(
                    each.movable and each.id not in course.busy for each in overlapped
                ):
                    yield gpu, placement, overlapped

    def _cleared(
        self, gpu: int, order: Contents, moves: int, course: Course, *, tight: bool
    ) -> Iterator[Course]:
        """Yield courses in which all of *order* have left *gpu*, with exactly so many moves."""
        here = course.changed[gpu]
        order = tuple(each for each in order if each in here)
        if not order:
            if not moves:
                yield course
            return
        first, *rest = order
        on_the_way = course._replace(busy=course.busy | {first.id})
        # The last to leave takes all the moves there are.
        for before in range(0 if rest else moves - 1, moves - len(rest)):
            if self._hopeless(first.resource, before, course):
                continue
            nothing_else = tight and moves - before - 1 == len(rest)
            for target, placement, then in self._rooms(
                first.resource, first.id, before, on_the_way, tight=nothing_else
            ):
                gone = then.moved(first, gpu, target, placement)
                yield from self._cleared(gpu, tuple(rest), moves - before - 1, gone, tight=tight)
                if self.exhausted:
                    return
        if self._parking and moves > len(order):
            for parked in self._parked(first, gpu, on_the_way):
                yield from self._cleared(gpu, tuple(rest), moves - 2, parked, tight=tight)

    def _parked(self, occupant: Occupant, gpu: int, course: Course) -> Iterator[Course]:
        """Yield courses in which an occupant stands for a while where something else is to be."""
        for target, contents in course.changed.items():
            profile = self._profile(target, occupant.resource)
            if profile is None:
                continue
            tables = self._hosts[target].tables
            present = state(tables, tuple(each for each in contents if not each.reserved))
            for placement in tables.geometry.legal(present, profile):
                self._looks -= 1
                if any(e.reserved and e.placement.mask & placement.mask for e in contents):
                    spot = reserved(occupant.id, occupant.resource, profile, placement)
                    kept = course.reserving(target, contents, spot)
                    then = kept.moved(occupant, gpu, target, placement)
                    there = next(e for e in then.changed[target] if e.id == occupant.id)
                    yield then._replace(parked=(*then.parked, (target, there)))

    def _unparked(self, course: Course) -> Iterator[Course]:
        """Yield courses in which those that were parked stand where they may stay."""
        if not course.parked:
            yield course
            return
        (gpu, occupant), *others = course.parked
        for target, placement, then in self._free(
            occupant.resource, occupant.id, course, tight=True
        ):
            gone = then.moved(occupant, gpu, target, placement)
            yield from self._unparked(gone._replace(parked=tuple(others)))

    def _hopeless(self, resource: str, moves: int, course: Course) -> bool:
        """Tell whether no room can be made, for none can be at the start.

        Reservations only make it harder; moves, and windows to park in, may make it easier.
        """
        if course.moves or self._parking:
            return False
        key = (resource, moves)
        if key not in self._possible:
            found = next(self._rooms(resource, WANTED, moves, self._start, tight=True), None)
            self._possible[key] = found is not None or self.exhausted
        return not self._possible[key]

    def _free(
        self, resource: str, id: str, course: Course, *, tight: bool
    ) -> Iterator[tuple[int, Placement, Course]]:
        """Yield free placements, the cheapest first; GPUs that are alike count once."""
        touched, wanted = [], resource == self._wanted
        for gpu, contents in course.changed.items():
            profile = self._profile(gpu, resource)
            if profile is not None and not (wanted and any(each.apart for each in contents)):
                tables = self._hosts[gpu].tables
                now = self._state(tables, contents)
                tie = -now.mask.bit_count()
                touched += [
                    (each.cost, tie, gpu, each.placement) for each in tables.options(now, profile)
                ]
        untouched = (
            (cost, tie, spare, placement)
            for cost, tie, members, placement in self._alike.free(
                resource, tight=tight, wanted=wanted
            )
            if (spare := _untouched(members, course)) is not None
        )
        for _, _, at, placement in heapq.merge(untouched, sorted(touched)):
            self._looks -= 1
            profile = self._profile(at, resource)
            assert profile is not None  # or it would have no place
            kept = reserved(id, resource, profile, placement)
            yield at, placement, course.reserving(at, self._contents(at, course), kept)

    def _state(self, tables: Tables, contents: Contents) -> Occupancy:
        """Return a state; courses share contents, which are known as the objects they are."""
        known = self._states.get(id(contents))
        if known is None:
            known = self._states[id(contents)] = (contents, state(tables, contents))
        return known[1]

    def _contents(self, gpu: int, course: Course) -> Contents:
        return course.changed.get(gpu, self._hosts[gpu].occupants)

    def _profile(self, gpu: int, resource: str) -> Profile | None:
        host = self._hosts[gpu]
        profile_id = host.serves.get(resource)
        return None if profile_id is None else host.tables.geometry.by_id.get(profile_id)


def _untouched(members: Sequence[int], course: Course) -> int | None:
    return next((each for each in members if each not in course.changed), None)
