"""Where each VM is after each move: exact in everything, for few VMs and few moves.

One VM moves at a time and holds both places meanwhile. What counting cannot see is seen here: the
order of moves, and who has to be parked.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from extender.moves.kinds import Kinds
from extender.moves.problem import Host, How, Movable, Occupant, Problem
from extender.moves.result import Move, Place
from extender.packing.program import Level, Program
from extender.packing.search import search
from nodeagent.api.geometry import Placement, Profile

MOST_COLUMNS = 20_000
"""Of a program that is tried: CP-SAT takes a second or so for it."""


class Spot(NamedTuple):
    """A place on a host, by index, for an instance of a profile."""

    host: int
    profile: int
    placement: Placement


@dataclass(frozen=True)
class Timed:
    """The best of the plans with so many moves, or that there is none; neither if time ran out."""

    moves: tuple[Move, ...] = ()
    places: tuple[Place, ...] = ()
    found: bool = False
    proven: bool = False


def size(problem: Problem, moves: int) -> int:
    """Return how many columns the program for so many moves has at least."""
    spots = sum(len(_spots(problem, at, each)) for at, each, _ in _movable(problem))
    return spots * (2 * moves + 1)


def timed(
    problem: Problem, kinds: Kinds, moves: int, *, left: Callable[[], float], seed: int
) -> Timed:
    """Return the cheapest plan of at most so many moves that attains all goals."""
    model = _Model(problem, kinds, moves)
    useful = np.ones(len(model.program.upper), dtype=np.bool_)
    level = model.cost()
    found = search(model.program, level, None, useful, seconds=left(), seed=seed)
    if found.values is None:
        return Timed(proven=found.infeasible)
    proven = found.bound == level.sum(found.values)
    return Timed(tuple(model.moves(found.values)), tuple(model.places(found.values)), True, proven)


def _movable(problem: Problem) -> Iterator[tuple[int, Occupant, Movable]]:
    for at, host in enumerate(problem.hosts):
        for occupant in host.occupants:
            leave = problem.leave(occupant)
            if leave is not None:
                yield at, occupant, leave


def _spots(problem: Problem, at: int, occupant: Occupant) -> list[Spot]:
    """Return where an occupant may ever be; where it is comes first."""
    now = Spot(at, occupant.profile_id, occupant.placement)
    return [now, *(spot for spot in _free(problem, occupant.kind) if spot != now)]


def _free(problem: Problem, kind: str) -> Iterator[Spot]:
    """Yield the places for a kind that nothing takes that stays."""
    for at, host in enumerate(problem.hosts):
        profile = host.profile(kind)
        if profile is None or host.uuid in problem.drained:
            continue
        stay = host.tables.holding(
            (each.profile_id, each.placement)
            for each in host.occupants
            if problem.leave(each) is None
        )
        for placement in host.tables.geometry.legal(stay, profile):
            yield Spot(at, profile.id, placement)


class _Model:
    """The program; ``_at[vm][t]`` has the column of each spot, for t from 1."""

    def __init__(self, problem: Problem, kinds: Kinds, moves: int) -> None:
        self._problem, self._kinds, self._steps = problem, kinds, moves
        self.program = Program()
        self._vms = list(_movable(problem))
        self._of = [_spots(problem, at, each) for at, each, _ in self._vms]
        self._at = [
            [dict(zip(spots, self._binaries(len(spots)), strict=True)) for _ in range(moves)]
            for spots in self._of
        ]
        self._moved = [self._binaries(moves) for _ in self._vms]
        self._held: list[dict[Spot, list[int]]] = [defaultdict(list) for _ in range(moves + 1)]
        self._be_somewhere_and_move_one_at_a_time()
        self._hold_both_places_of_a_move()
        self._final = self._place_what_is_wanted()
        self._share_no_slice()
        self._empty_what_is_to_be_empty()

    def _binaries(self, many: int) -> list[int]:
        return self.program.columns([1] * many)

    def _be_somewhere_and_move_one_at_a_time(self) -> None:
        program = self.program
        for step in range(self._steps):
            for vm, spots in enumerate(self._of):
                now = self._at[vm][step]
                program.equal([*now.values()], [1] * len(now), 1)
                moved = self._moved[vm][step]
                for spot in spots:
                    if step:
                        terms = [now[spot], self._at[vm][step - 1][spot], moved]
                        program.at_most(terms, [1, -1, -1], 0)
                    elif spot != spots[0]:
                        program.at_most([now[spot], moved], [1, -1], 0)
                if self._vms[vm][2].how is How.LIVE:
                    self._leave_the_node(vm, step)
            moved_now = [each[step] for each in self._moved]
            program.at_most(moved_now, [1] * len(moved_now), 1)

    def _leave_the_node(self, vm: int, step: int) -> None:
        """What migrates goes to another node."""
        hosts, now = self._problem.hosts, self._at[vm][step]
        for spot, column in now.items():
            for other in self._of[vm]:
                if other == spot or hosts[other.host].node != hosts[spot.host].node:
                    continue
                if step:
                    self.program.at_most([column, self._at[vm][step - 1][other]], [1, 1], 1)
                elif other == self._of[vm][0]:
                    self.program.at_most([column], [1], 0)

    def _hold_both_places_of_a_move(self) -> None:
        """While a step is made, where one is before and after it is taken."""
        program = self.program
        for vm, spots in enumerate(self._of):
            for step in range(self._steps):
                for spot in spots:
                    column = program.column(1)
                    program.at_most([self._at[vm][step][spot], column], [1, -1], 0)
                    if step:
                        program.at_most([self._at[vm][step - 1][spot], column], [1, -1], 0)
                    elif spot == spots[0]:
                        program.at_least([column], [1], 1)
                    self._held[step][spot].append(column)
            if self._steps:
                for spot, column in self._at[vm][-1].items():
                    self._held[-1][spot].append(column)
            else:
                column = program.column(1)
                program.at_least([column], [1], 1)
                self._held[-1][spots[0]].append(column)

    def _place_what_is_wanted(self) -> dict[tuple[int, Spot], int]:
        final: dict[tuple[int, Spot], int] = {}
        kind_of = {self._kinds.group[each.kind]: each.kind for each in self._problem.wanted}
        asked = Counter(self._kinds.group[each.kind] for each in self._problem.wanted)
        for group, kind in kind_of.items():
            columns = []
            for spot in _free(self._problem, kind):
                column = final[group, spot] = self.program.column(1)
                self._held[-1][spot].append(column)
                columns.append(column)
            self.program.at_least(columns, [1] * len(columns), asked[group])
        return final

    def _share_no_slice(self) -> None:
        for held in self._held:
            slices: dict[tuple[int, int], list[int]] = defaultdict(list)
            counted: dict[tuple[int, int], list[int]] = defaultdict(list)
            for spot, columns in held.items():
                for each in range(spot.placement.start, spot.placement.end):
                    slices[spot.host, each].extend(columns)
                if self._profile(spot).limited:
                    counted[spot.host, spot.profile].extend(columns)
            for columns in slices.values():
                self.program.at_most(columns, [1] * len(columns), 1)
            for (host, profile), columns in counted.items():
                most = self._profile(Spot(host, profile, Placement(0, 1))).max_instances
                stay = sum(
                    each.profile_id == profile and self._problem.leave(each) is None
                    for each in self._problem.hosts[host].occupants
                )
                self.program.at_most(columns, [1] * len(columns), most - stay)

    def _profile(self, spot: Spot) -> Profile:
        return self._problem.hosts[spot.host].tables.geometry.by_id[spot.profile]

    def _empty_what_is_to_be_empty(self) -> None:
        problem, program, hosts = self._problem, self.program, self._problem.hosts
        on: dict[int, list[int]] = defaultdict(list)
        for spot, columns in self._held[-1].items():
            on[spot.host].extend(columns)
        for at, host in enumerate(hosts):
            if host.uuid in problem.drained and on[at]:
                program.at_most(on[at], [1] * len(on[at]), 0)
        if not problem.empty_gpus and not problem.empty_nodes:
            return
        empty: dict[int, int] = {}
        for at, host in enumerate(hosts):
            if _emptiable(problem, host):
                empty[at] = program.column(1)
                for column in on[at]:
                    program.at_most([column, empty[at]], [1, 1], 1)
        gpus = [*empty.values()]
        program.at_least(gpus, [1] * len(gpus), problem.empty_gpus)
        nodes: dict[str, list[int]] = defaultdict(list)
        for at, host in enumerate(hosts):
            nodes[host.node].append(at)
        whole = []
        for of_node in nodes.values():
            if all(at in empty for at in of_node):
                column = program.column(1)
                whole.append(column)
                for at in of_node:
                    program.at_most([column, empty[at]], [1, -1], 0)
        program.at_least(whole, [1] * len(whole), problem.empty_nodes)

    def cost(self) -> Level:
        """Return what is maximised: minus the cost."""
        columns, weights = [], []
        for (_, _, leave), moved in zip(self._vms, self._moved, strict=True):
            columns += moved
            weights += [-leave.cost] * len(moved)
        return Level(columns, weights, 0)

    def moves(self, values: Sequence[int]) -> Iterator[Move]:
        """Yield the moves in their order."""
        at = [spots[0] for spots in self._of]
        for step in range(self._steps):
            for vm, (_, occupant, leave) in enumerate(self._vms):
                now = next(s for s, column in self._at[vm][step].items() if values[column])
                if now != at[vm]:
                    hosts, before = self._problem.hosts, at[vm]
                    yield Move(
                        occupant.id,
                        hosts[before.host].uuid,
                        before.placement,
                        hosts[now.host].uuid,
                        now.placement,
                        leave.how,
                        leave.cost,
                    )
                    at[vm] = now

    def places(self, values: Sequence[int]) -> Iterator[Place]:
        """Yield where what is wanted goes."""
        free: dict[int, list[Spot]] = defaultdict(list)
        for (group, spot), column in self._final.items():
            if values[column]:
                free[group].append(spot)
        for wanted in self._problem.wanted:
            spot = free[self._kinds.group[wanted.kind]].pop(0)
            uuid = self._problem.hosts[spot.host].uuid
            yield Place(wanted.id, uuid, spot.profile, spot.placement)


def _emptiable(problem: Problem, host: Host) -> bool:
    return (
        host.open
        and host.uuid not in problem.drained
        and all(problem.leave(each) is not None for each in host.occupants)
    )
