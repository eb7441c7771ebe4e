"""The order of moves: who can go goes, those first for whom others wait.

Where everybody waits for somebody else, one is parked where there is room, and moves again later.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from extender.moves.kinds import Kinds
from extender.moves.problem import How, Occupant, Problem
from extender.moves.result import Move, Place
from extender.moves.slots import Slot, Slots, excludes
from nodeagent.api.geometry import Placement


def ordered(
    problem: Problem, kinds: Kinds, there: Slots
) -> tuple[tuple[Move, ...], tuple[Place, ...]] | None:
    """Return the moves in an order in which each is possible, and the places; None if not found."""
    moves = _Order(problem, kinds, there).moves()
    if moves is None:
        return None
    return tuple(moves), tuple(_places(problem, kinds, there))


def _places(problem: Problem, kinds: Kinds, there: Slots) -> Iterator[Place]:
    free: dict[tuple[int, int], list[Slot]] = defaultdict(list)
    for slot in there.wanted:
        free[slot.sort, slot.profile].append(slot)
    left = Counter(there.admitted)
    for wanted in problem.wanted:
        group = kinds.group[wanted.kind]
        sort = next((sort for (g, sort), many in left.items() if g == group and many > 0), None)
        if sort is None:
            continue
        profile = kinds.served[sort][group]
        assert profile is not None  # nothing is sent where it is not served
        left[group, sort] -= 1
        slot = free[sort, profile].pop(0)
        yield Place(wanted.id, problem.hosts[slot.host].uuid, profile, slot.placement)


class _Order:
    """Carries the moves out, one after the other."""

    def __init__(self, problem: Problem, kinds: Kinds, there: Slots) -> None:
        self._problem, self._kinds = problem, kinds
        self._at: dict[str, tuple[int, Occupant]] = dict(there.movers)
        self._pending = dict.fromkeys(there.movers)
        self._slots = list(there.moving)
        self._wanted = there.wanted
        self._waits: list[set[str]] = [set(slot.after) for slot in self._slots]
        self._left = Counter(there.sent)
        self._parked: set[str] = set()
        self._on: dict[int, dict[str, Occupant]] = {}
        self._moves: list[Move] = []

    def moves(self) -> list[Move] | None:
        """Return the moves; None if nobody can go, and nobody be parked."""
        while self._pending:
            if not (self._go() or self._park()):
                return None
        return self._moves

    def _go(self) -> bool:
        """Let one go to where it may stay."""
        open_slots: dict[tuple[int, int], list[int]] = defaultdict(list)
        for at, slot in enumerate(self._slots):
            if not self._waits[at]:
                open_slots[slot.sort, slot.profile].append(at)
        for id in self._most_waited_for():
            host, occupant = self._at[id]
            group = self._kinds.group[occupant.kind]
            for (sort, profile), free in open_slots.items():
                if self._kinds.served[sort][group] != profile or not self._left[group, sort]:
                    continue
                for at in free:
                    if self._may_go(occupant, host, self._slots[at].host):
                        self._left[group, sort] -= 1
                        slot = self._slots.pop(at)
                        self._waits.pop(at)
                        self._move(id, slot.host, profile, slot.placement)
                        del self._pending[id]
                        return True
        return False

    def _park(self) -> bool:
        """Let one go to where it is in nobody's way, or at least in the way of few."""
        best: tuple[int, str, int, int, Placement] | None = None
        for id in self._most_waited_for():
            if id in self._parked:
                continue
            for blocked, host, profile, placement in self._spots(id):
                if best is None or blocked < best[0]:
                    best = blocked, id, host, profile, placement
                if not blocked:
                    break
            if best is not None:
                break
        if best is None:
            return False
        _, id, host, profile, placement = best
        self._parked.add(id)
        self._move(id, host, profile, placement)
        for at, slot in enumerate(self._slots):
            if slot.host == host and self._in_the_way(id, slot):
                self._waits[at].add(id)
        return True

    def _spots(self, id: str) -> Iterator[tuple[int, int, int, Placement]]:
        """Yield where one could be parked: how many wait for that place, host, profile, place."""
        source, occupant = self._at[id]
        for at, host in enumerate(self._problem.hosts):
            profile = host.profile(occupant.kind)
            drained = host.uuid in self._problem.drained
            if profile is None or drained or not self._may_go(occupant, source, at):
                continue
            state = host.tables.holding(
                (each.profile_id, each.placement) for each in self._here(at).values()
            )
            for placement in host.tables.geometry.legal(state, profile):
                there = Occupant(id, occupant.kind, profile.id, placement)
                yield (
                    sum(
                        slot.host == at and excludes(host, there, slot.profile, slot.placement)
                        for slot in (*self._slots, *self._wanted)
                    ),
                    at,
                    profile.id,
                    placement,
                )

    def _in_the_way(self, id: str, slot: Slot) -> bool:
        host = self._problem.hosts[slot.host]
        return excludes(host, self._at[id][1], slot.profile, slot.placement)

    def _most_waited_for(self) -> Sequence[str]:
        waited: Counter[str] = Counter(id for waits in self._waits for id in waits)
        return sorted(
            self._pending, key=lambda id: (-waited[id], -self._at[id][1].placement.size, id)
        )

    def _may_go(self, occupant: Occupant, source: int, target: int) -> bool:
        hosts, leave = self._problem.hosts, occupant.movable
        assert leave is not None  # only such are moved
        return leave.how is not How.LIVE or hosts[source].node != hosts[target].node

    def _here(self, at: int) -> dict[str, Occupant]:
        if at not in self._on:
            self._on[at] = {each.id: each for each in self._problem.hosts[at].occupants}
        return self._on[at]

    def _move(self, id: str, target: int, profile: int, placement: Placement) -> None:
        source, occupant = self._at[id]
        leave = occupant.movable
        assert leave is not None  # only such are moved
        hosts: Mapping[int, str] = {at: self._problem.hosts[at].uuid for at in (source, target)}
        self._moves.append(
            Move(
                id,
                hosts[source],
                occupant.placement,
                hosts[target],
                placement,
                leave.how,
                leave.cost,
            )
        )
        there = Occupant(id, occupant.kind, profile, placement, leave)
        del self._here(source)[id]
        self._here(target)[id] = there
        self._at[id] = target, there
        for waits in self._waits:
            waits.discard(id)
