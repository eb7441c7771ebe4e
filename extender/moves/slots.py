"""From counts to places: what goes where on each GPU, and who has to leave before it can.

What is wanted comes after all moves: it gets the places that others have to leave, and who moves
gets those that are free already, as far as there are any.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from extender.moves.classes import Leaver
from extender.moves.counting import Counted
from extender.moves.kinds import Kinds
from extender.moves.problem import Host, Occupant, Problem
from nodeagent.api.geometry import Placement


class Slot(msgspec.Struct, frozen=True):
    """A place on a host, of a sort, for an instance; ``after`` must have left it before."""

    host: int
    sort: int
    profile: int
    placement: Placement
    after: frozenset[str]


@dataclass(frozen=True)
class Slots:
    """Places for those that move and for what is wanted, and who moves, with the host.

    ``sent`` counts movers by (group, sort) and ``admitted`` what is wanted.
    """

    moving: Sequence[Slot]
    wanted: Sequence[Slot]
    movers: Mapping[str, tuple[int, Occupant]]
    sent: Counter[tuple[int, int]]
    admitted: Counter[tuple[int, int]]


@dataclass
class _Load:
    """What a host is to take: profiles of movers, and of what is wanted."""

    moving: list[int] = field(default_factory=list)
    wanted: list[int] = field(default_factory=list)


def slots(problem: Problem, kinds: Kinds, counted: Counted) -> Slots:
    """Return who moves and all places, as the counts say."""
    leaving = {
        at: _of(problem, at, choice.leave) for at, choice in counted.leave.items() if choice.leave
    }
    leaving |= {at: _of(problem, at, None) for at in counted.emptied}
    movers = {each.id: (at, each) for at, gone in leaving.items() for each in gone}
    movers |= dict(_from_drained(problem, kinds, counted.drained))
    room = _room(kinds, counted)
    admitted = _admitted(kinds, counted, room, leaving)
    sent = Counter(dict(counted.sent))
    sent.subtract(admitted)
    moving: list[Slot] = []
    wanted: list[Slot] = []
    for at, load in _loads(problem, kinds, room, leaving, sent, admitted).items():
        sort = kinds.sort[at]
        assert sort is not None  # or it would have no room
        placed = _Arrangement(problem.hosts[at], leaving.get(at, ()), load).best()
        for number, (profile, placement) in enumerate(placed):
            host = problem.hosts[at]
            after = frozenset(
                each.id for each in leaving.get(at, ()) if excludes(host, each, profile, placement)
            )
            slot = Slot(at, sort, profile, placement, after)
            (moving if number < len(load.moving) else wanted).append(slot)
    return Slots(moving, wanted, movers, sent, admitted)


def excludes(host: Host, occupant: Occupant, profile_id: int, placement: Placement) -> bool:
    """Tell whether an instance cannot be made on a host while an occupant is there.

    A profile of which a GPU takes few is taken for one of which it takes no more than there are.
    """
    profile = host.tables.geometry.by_id[profile_id]
    return bool(occupant.placement.mask & placement.mask) or (
        profile.limited and occupant.profile_id == profile_id
    )


def _of(problem: Problem, at: int, which: Sequence[int] | None) -> tuple[Occupant, ...]:
    movable = [each for each in problem.hosts[at].occupants if problem.leave(each) is not None]
    return tuple(movable if which is None else (movable[index] for index in which))


def _from_drained(
    problem: Problem, kinds: Kinds, counts: Mapping[Leaver, int]
) -> Iterator[tuple[str, tuple[int, Occupant]]]:
    left = Counter(dict(counts))
    for at, host in enumerate(problem.hosts):
        if host.uuid not in problem.drained:
            continue
        for occupant in host.occupants:
            leave = problem.leave(occupant)
            if leave is not None:
                leaver = Leaver(kinds.group[occupant.kind], leave.cost)
                if left[leaver] > 0:
                    left[leaver] -= 1
                    yield occupant.id, (at, occupant)


_Room = Mapping[tuple[int, int], Mapping[int, int]]
"""By (sort, profile): how many fit on each host."""


def _room(kinds: Kinds, counted: Counted) -> _Room:
    room: dict[tuple[int, int], dict[int, int]] = defaultdict(dict)
    for at, choice in counted.leave.items():
        sort = kinds.sort[at]
        assert sort is not None  # nothing is chosen for other hosts
        for profile, many in zip(kinds.profiles(sort), choice.room, strict=True):
            if many:
                room[sort, profile][at] = many
    return room


def _admitted(
    kinds: Kinds, counted: Counted, room: _Room, leaving: Mapping[int, Sequence[Occupant]]
) -> Counter[tuple[int, int]]:
    """Send what is wanted to those sorts of GPUs on which most has to be left first."""
    found: Counter[tuple[int, int]] = Counter()
    for group, many in counted.admitted.items():

        def dirty(sort: int, group: int = group) -> int:
            profile = kinds.served[sort][group]
            hosts = room.get((sort, profile), {}) if profile is not None else {}
            return sum(count for at, count in hosts.items() if leaving.get(at))

        for sort in sorted(range(len(kinds.served)), key=lambda sort: (-dirty(sort), sort)):
            here = min(many, counted.sent.get((group, sort), 0))
            if here:
                found[group, sort] = here
                many -= here
    return found


def _loads(
    problem: Problem,
    kinds: Kinds,
    room: _Room,
    leaving: Mapping[int, Sequence[Occupant]],
    sent: Mapping[tuple[int, int], int],
    admitted: Mapping[tuple[int, int], int],
) -> Mapping[int, _Load]:
    """Divide what is sent to each sort of GPUs among these, the fuller first."""
    loads: dict[int, _Load] = defaultdict(_Load)

    def total(counts: Mapping[tuple[int, int], int], sort: int, profile: int) -> int:
        served = kinds.served[sort]
        return sum(many for (g, s), many in counts.items() if s == sort and served[g] == profile)

    for (sort, profile), hosts in room.items():
        left = dict(hosts)
        order = sorted(
            left,
            key=lambda at: (
                bool(leaving.get(at)),
                -problem.hosts[at].state().mask.bit_count(),
                at,
            ),
        )
        for counts, wanted, turn in ((admitted, True, order[::-1]), (sent, False, order)):
            many = total(counts, sort, profile)
            for at in turn:
                here = min(many, left[at])
                left[at] -= here
                many -= here
                load = loads[at]
                (load.wanted if wanted else load.moving).extend([profile] * here)
    return loads


class _Arrangement:
    """Finds where on a host its load goes: the fewest movers wait, then the most is it worth."""

    def __init__(self, host: Host, leaving: Sequence[Occupant], load: _Load) -> None:
        self._host, self._leaving = host, leaving
        gone = {each.id for each in leaving}
        self._stays = [
            (each.profile_id, each.placement) for each in host.occupants if each.id not in gone
        ]
        geometry = host.tables.geometry
        order = sorted(
            [(profile, True) for profile in load.moving]
            + [(profile, False) for profile in load.wanted],
            key=lambda each: (-geometry.by_id[each[0]].size, each),
        )
        self._items, self._load = order, load
        self._best: tuple[tuple[int, int], list[tuple[int, Placement]]] | None = None

    def best(self) -> list[tuple[int, Placement]]:
        """Return (profile id, placement) of those that move, then of what is wanted."""
        self._search([], 0)
        assert self._best is not None  # the counts are of what fits together
        placed = list(zip(self._items, self._best[1], strict=True))
        return [each for moving in (True, False) for (_, is_), each in placed if is_ is moving]

    def _search(self, placed: list[tuple[int, Placement]], waiting: int) -> None:
        if self._best is not None and waiting > self._best[0][0]:
            return
        tables = self._host.tables
        state = tables.holding([*self._stays, *placed])
        if len(placed) == len(self._items):
            rank = (waiting, -tables.worth(state))
            if self._best is None or rank < self._best[0]:
                self._best = rank, list(placed)
            return
        profile_id, moving = self._items[len(placed)]
        again = len(placed) > 0 and self._items[len(placed) - 1] == (profile_id, moving)
        for placement in tables.geometry.legal(state, tables.geometry.by_id[profile_id]):
            if again and placement < placed[-1][1]:
                continue  # of several alike, the order is the same to all
            waits = moving and any(
                excludes(self._host, each, profile_id, placement) for each in self._leaving
            )
            placed.append((profile_id, placement))
            self._search(placed, waiting + waits)
            placed.pop()
