"""Making room: the fewest moves after which one more GPU instance fits.

Goal-directed and exact in the number of moves: a window of the wanted profile is reserved, whatever
overlaps it is moved elsewhere, and where that has no place either, room is made for it first, in
the same way. Depth is tried from none upwards, so the first answer takes the fewest moves; among
those, the one after which the GPUs are worth most is taken. Targets are free when a move begins:
they can be reserved before anything is stopped, and each state on the way is legal.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from extender.packing.tables import Tables
from nodeagent.api.geometry import Geometry, Occupancy, Placement, Profile


class Occupant(NamedTuple):
    """A GPU instance that exists or is promised; ``movable`` if its VM may be moved.

    ``reserved``: it is not there yet.
    """

    id: str
    resource: str
    profile_id: int
    placement: Placement
    movable: bool = True
    reserved: bool = False


class Host(msgspec.Struct, frozen=True):
    """A GPU with all that is on it. ``serves`` maps resources to profile ids, as for a bin."""

    uuid: str
    tables: Tables
    serves: Mapping[str, int]
    occupants: tuple[Occupant, ...] = ()


class Move(NamedTuple):
    """One occupant's move, to a placement that is free at that moment; GPUs by index."""

    occupant: str
    source: int
    target: int
    placement: Placement


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
    hosts: Sequence[Host], wanted: str, *, most_moves: int, most_looks: int = 100_000
) -> Room | NoRoom:
    """Return the best of the plans with the fewest moves after which *wanted* fits.

    ``most_looks`` bounds the work: windows looked at. When it is used up, what was found so far
    with the number of moves being tried is the answer.
    """
    search = _Search(hosts, most_looks)
    for moves in range(most_moves + 1):
        for parking in (False, True) if moves >= FEWEST_WITH_PARKING else (False,):
            found = search.best(wanted, moves, parking=parking)
            if found is not None:
                return found
            if search.exhausted:
                return NoRoom(proven=False)
    return NoRoom(proven=True)


_Layout = tuple[Occupant, ...]


class _State(NamedTuple):
    """Layouts that differ from the start, moves so far, and who is on the way.

    ``parked``: who stands where something else is to be, with the GPU.
    """

    changed: Mapping[int, _Layout]
    moves: tuple[Move, ...] = ()
    busy: frozenset[str] = frozenset()
    parked: tuple[tuple[int, Occupant], ...] = ()


class _Class(msgspec.Struct):
    """GPUs that are alike in all that matters."""

    host: Host
    members: list[int]
    state: Occupancy


class _Search:
    def __init__(self, hosts: Sequence[Host], looks: int) -> None:
        self._hosts = hosts
        self._looks = looks
        classes: dict[object, _Class] = {}
        for index, host in enumerate(hosts):
            key = (id(host.tables), id(host.serves), tuple(each[1:] for each in host.occupants))
            known = classes.get(key)
            if known is None:
                state = _state(host.tables, host.occupants)
                classes[key] = _Class(host, [index], state)
            else:
                known.members.append(index)
        self._classes = list(classes.values())
        self._direct: dict[str, list[tuple[int, int, _Class, Placement]]] = {}
        self._possible: dict[tuple[str, int], bool] = {}
        self._start = _State({})
        self._parking = False

    @property
    def exhausted(self) -> bool:
        """Whether no work is left to be done."""
        return self._looks <= 0

    def best(self, wanted: str, moves: int, *, parking: bool) -> Room | None:
        """Return the plan of exactly so many moves that leaves the GPUs worth most.

        With *parking*, one of them may stand for a while where something else is to be.
        """
        best: Room | None = None
        self._parking = parking
        self._possible.clear()
        for gpu, placement, state in self._rooms(wanted, WANTED, moves, self._start):
            gain = sum(
                _value(self._hosts[at].tables, layout)
                - _value(self._hosts[at].tables, self._hosts[at].occupants)
                for at, layout in state.changed.items()
            )
            if best is None or gain > best.gain:
                best = Room(gpu, placement, state.moves, gain)
            if not moves or self.exhausted:
                break
        return best

    def _rooms(
        self, resource: str, id: str, moves: int, state: _State
    ) -> Iterator[tuple[int, Placement, _State]]:
        """Yield (GPU, placement, state with it reserved) after exactly so many more moves.

        Of the ways to clear a window for what is wanted, the first that is found.
        """
        if not moves:
            yield from self._free(resource, id, state)
            return
        for gpu in self._candidates(state):
            layout = state.changed.get(gpu, self._hosts[gpu].occupants)
            profile = self._profile(gpu, resource)
            if profile is None:
                continue
            for placement, overlapped in windows(self._hosts[gpu].tables.geometry, profile, layout):
                self._looks -= 1
                if self.exhausted:
                    return
                if not 0 < len(overlapped) <= moves or any(
                    not each.movable or each.id in state.busy for each in overlapped
                ):
                    continue
                then = _with(state, gpu, layout, _reserved(id, resource, profile, placement))
                for order in itertools.permutations(overlapped):
                    cleared = self._cleared(gpu, order, moves, then)
                    if id != WANTED:
                        yield from ((gpu, placement, each) for each in cleared)
                        continue
                    everybody = itertools.chain.from_iterable(map(self._unparked, cleared))
                    first = next(everybody, None)
                    if first is not None:
                        yield gpu, placement, first
                        break

    def _cleared(
        self, gpu: int, order: tuple[Occupant, ...], moves: int, state: _State
    ) -> Iterator[_State]:
        """Yield states in which all of *order* have left *gpu*, with exactly so many moves."""
        here = state.changed[gpu]
        order = tuple(each for each in order if each in here)
        if not order:
            if not moves:
                yield state
            return
        first, *rest = order
        on_the_way = state._replace(busy=state.busy | {first.id})
        for before in range(moves - len(order) + 1):
            if self._hopeless(first.resource, before, state):
                continue
            for target, placement, then in self._rooms(
                first.resource, first.id, before, on_the_way
            ):
                gone = _moved(then, first, gpu, target, placement)
                yield from self._cleared(gpu, tuple(rest), moves - before - 1, gone)
                if self.exhausted:
                    return
        if self._parking and moves > len(order):
            for parked in self._parked(first, gpu, on_the_way):
                yield from self._cleared(gpu, tuple(rest), moves - 2, parked)

    def _parked(self, occupant: Occupant, gpu: int, state: _State) -> Iterator[_State]:
        """Yield states in which an occupant stands for a while where something else is to be."""
        for target, layout in state.changed.items():
            profile = self._profile(target, occupant.resource)
            if profile is None:
                continue
            tables = self._hosts[target].tables
            present = _state(tables, tuple(each for each in layout if not each.reserved))
            for placement in tables.geometry.legal(present, profile):
                self._looks -= 1
                if any(e.reserved and e.placement.mask & placement.mask for e in layout):
                    spot = _reserved(occupant.id, occupant.resource, profile, placement)
                    then = _moved(
                        _with(state, target, layout, spot), occupant, gpu, target, placement
                    )
                    there = next(e for e in then.changed[target] if e.id == occupant.id)
                    yield then._replace(parked=(*then.parked, (target, there)))

    def _unparked(self, state: _State) -> Iterator[_State]:
        """Yield states in which those that were parked stand where they may stay."""
        if not state.parked:
            yield state
            return
        (gpu, occupant), *others = state.parked
        for target, placement, then in self._free(occupant.resource, occupant.id, state):
            gone = _moved(then, occupant, gpu, target, placement)
            yield from self._unparked(gone._replace(parked=tuple(others)))

    def _hopeless(self, resource: str, moves: int, state: _State) -> bool:
        """Tell whether no room can be made, for none can be at the start.

        Reservations only make it harder; moves, and windows to park in, may make it easier.
        """
        if state.moves or self._parking:
            return False
        key = (resource, moves)
        if key not in self._possible:
            found = next(self._rooms(resource, WANTED, moves, self._start), None)
            self._possible[key] = found is not None or self.exhausted
        return not self._possible[key]

    def _free(
        self, resource: str, id: str, state: _State
    ) -> Iterator[tuple[int, Placement, _State]]:
        """Yield free placements, the cheapest first; GPUs that are alike count once."""
        ways = []
        for cost, tie, alike, placement in self._ranked(resource):
            gpu = next((each for each in alike.members if each not in state.changed), None)
            if gpu is not None:
                ways.append((cost, tie, gpu, placement))
        for gpu, layout in state.changed.items():
            profile = self._profile(gpu, resource)
            if profile is not None:
                tables = self._hosts[gpu].tables
                now = _state(tables, layout)
                tie = -now.mask.bit_count()
                ways += [
                    (each.cost, tie, gpu, each.placement) for each in tables.options(now, profile)
                ]
        for _, _, gpu, placement in sorted(ways):
            self._looks -= 1
            profile = self._profile(gpu, resource)
            assert profile is not None
            layout = state.changed.get(gpu, self._hosts[gpu].occupants)
            yield (
                gpu,
                placement,
                _with(state, gpu, layout, _reserved(id, resource, profile, placement)),
            )

    def _ranked(self, resource: str) -> list[tuple[int, int, _Class, Placement]]:
        """Return the free placements at the start: (cost, minus fullness, class, placement)."""
        known = self._direct.get(resource)
        if known is None:
            known = self._direct[resource] = []
            for alike in self._classes:
                profile = self._profile(alike.members[0], resource)
                if profile is not None:
                    tie = -alike.state.mask.bit_count()
                    known += [
                        (each.cost, tie, alike, each.placement)
                        for each in alike.host.tables.options(alike.state, profile)
                    ]
        return known

    def _candidates(self, state: _State) -> Iterator[int]:
        """Yield one untouched GPU of each class, then those touched."""
        for alike in self._classes:
            gpu = next((each for each in alike.members if each not in state.changed), None)
            if gpu is not None:
                yield gpu
        yield from state.changed

    def _profile(self, gpu: int, resource: str) -> Profile | None:
        host = self._hosts[gpu]
        profile_id = host.serves.get(resource)
        return None if profile_id is None else host.tables.geometry.by_id.get(profile_id)


def _reserved(id: str, resource: str, profile: Profile, placement: Placement) -> Occupant:
    return Occupant(id, resource, profile.id, placement, movable=False, reserved=True)


def _with(state: _State, gpu: int, layout: _Layout, occupant: Occupant) -> _State:
    return state._replace(changed={**state.changed, gpu: (*layout, occupant)})


def _moved(
    state: _State, occupant: Occupant, source: int, target: int, placement: Placement
) -> _State:
    """Return the state after a move to a place that was reserved for the occupant."""
    changed = dict(state.changed)
    changed[source] = tuple(each for each in changed[source] if each != occupant)
    changed[target] = tuple(
        each._replace(reserved=False) if each.id == occupant.id and each.reserved else each
        for each in changed[target]
    )
    move = Move(occupant.id, source, target, placement)
    return state._replace(changed=changed, moves=(*state.moves, move))


def windows(
    geometry: Geometry, profile: Profile, layout: _Layout
) -> Iterator[tuple[Placement, tuple[Occupant, ...]]]:
    """Yield each placement of a profile with what must leave the GPU for it."""
    for placement in profile.placements:
        overlapped = tuple(each for each in layout if each.placement.mask & placement.mask)
        if not profile.limited:
            yield placement, overlapped
            continue
        same = [e for e in layout if e.profile_id == profile.id and e not in overlapped]
        too_many = max(0, len(same) - profile.max_instances + 1)
        for more in itertools.combinations(same, too_many):
            yield placement, (*overlapped, *more)


def _state(tables: Tables, layout: _Layout) -> Occupancy:
    return tables.holding((each.profile_id, each.placement) for each in layout)


def _value(tables: Tables, layout: _Layout) -> int:
    return tables.worth(_state(tables, layout))
