"""Small clusters for the planner of moves, and an exhaustive search that judges its cost."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterator

import msgspec

from extender.moves import (
    Admit,
    Consolidate,
    Drain,
    Goal,
    Headroom,
    Host,
    How,
    Movable,
    Occupant,
    Problem,
    Wanted,
)
from extender.packing.tables import Tables, tables
from extender.policy import PolicyName
from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Geometry, Occupancy, Placement

A30 = tables(MODELS["A30-24GB"].geometry, PolicyName.DEFAULT)
H100 = tables(MODELS["H100-80GB"].geometry, PolicyName.DEFAULT)

State = tuple[frozenset[tuple[str, int, int]], ...]
"""(VM, profile id, start) of all that is on each GPU."""


def served(of: Tables) -> dict[str, int]:
    """Everything, by the profile's name."""
    return {profile.name: profile.id for profile in of.geometry.profiles}


def clock() -> float:
    """Time stands still: what a plan comes to depends on work done alone."""
    return 0.0


def random_hosts(chance: random.Random, of: Tables, gpus: int, fill: float) -> list[Host]:
    """GPUs with something on them, some of it not to be moved, at costs of 1 to 3."""
    hosts = []
    for at in range(gpus):
        state, occupants = of.geometry.empty, list[Occupant]()
        while chance.random() < fill:
            profile = chance.choice(of.geometry.profiles)
            legal = list(of.geometry.legal(state, profile))
            if not legal:
                break
            placement = chance.choice(legal)
            state = of.geometry.occupied(state, profile.id, placement)
            how = How.LIVE if chance.random() < 0.3 else How.RESTART
            budget = chance.choice(["", "", "", "tight", "loose"])
            leave = Movable(how, chance.randint(1, 3), budget)
            movable = chance.random() < 0.85
            occupants.append(
                Occupant(
                    f"{at}/{len(occupants)}",
                    profile.name,
                    profile.id,
                    placement,
                    leave if movable else None,
                    "" if movable else "said so",
                )
            )
        serves = served(of)
        if chance.random() < 0.2:
            del serves[chance.choice(list(serves))]
        hosts.append(
            Host(
                f"GPU-{at}", f"node-{at // 2}", of, serves, tuple(occupants), chance.random() < 0.9
            )
        )
    return hosts


def random_goal(chance: random.Random, of: Tables, hosts: list[Host], prefix: str) -> Goal:
    """One goal of any kind; what it wants has ids with a prefix."""
    names = [profile.name for profile in of.geometry.profiles]
    match chance.randrange(4):
        case 0:
            wanted = [
                Wanted(f"{prefix}{n}", chance.choice(names)) for n in range(chance.randint(1, 2))
            ]
            return Admit(tuple(wanted))
        case 1:
            return Headroom(chance.choice(names), chance.randint(1, 2))
        case 2:
            if chance.random() < 0.5:
                return Consolidate(nodes=1)
            return Consolidate(gpus=chance.randint(1, 2))
        case _:
            return Drain(frozenset({chance.choice(hosts).uuid}))


def random_problem(chance: random.Random, of: Tables, gpus: int, fill: float = 0.75) -> Problem:
    """A small cluster with a goal, or two."""
    hosts = random_hosts(chance, of, gpus, fill)
    goals = [random_goal(chance, of, hosts, "first")]
    if chance.random() < 0.25:
        goals.append(random_goal(chance, of, hosts, "second"))
    return Problem(hosts, tuple(goals), {"tight": 0, "loose": 1})


def crowded(chance: random.Random, of: Tables, gpus: int) -> Problem:
    """The same where most may move and most GPUs take everything: what is hard is the room."""
    made = random_problem(chance, of, gpus, chance.choice((0.65, 0.75, 0.85)))
    hosts = []
    for host in made.hosts:
        occupants = []
        for each in host.occupants:
            leave = each.movable
            if leave is None and chance.random() < 0.8:
                leave = Movable(How.RESTART, 2)
            if leave is not None:
                leave = Movable(leave.how, leave.cost)
            occupants.append(msgspec.structs.replace(each, movable=leave))
        serves = host.serves if chance.random() < 0.3 else served(of)
        hosts.append(Host(host.uuid, host.node, of, serves, tuple(occupants)))
    return Problem(hosts, made.goals)


class Exhaustive:
    """Looks at every state that moves lead to, by the fewest moves, then by the least cost."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._hosts = problem.hosts
        self._of = {each.id: each for host in problem.hosts for each in host.occupants}
        self._drained = {
            uuid for goal in problem.goals if isinstance(goal, Drain) for uuid in goal.gpus
        }

    def best(self, most_moves: int) -> tuple[int, int] | None:
        """Return the least (moves, cost) that attain all goals; None if so many do not."""
        start: State = tuple(
            frozenset((o.id, o.profile_id, o.placement.start) for o in host.occupants)
            for host in self._hosts
        )
        queue: list[tuple[int, int, int, State]] = [(0, 0, 0, start)]
        count = itertools.count(1)
        done: set[State] = set()
        while queue:
            moves, cost, _, now = heapq.heappop(queue)
            if now in done:
                continue
            done.add(now)
            if self._attained(now):
                return moves, cost
            if moves < most_moves:
                for more, then in self._moved(now):
                    if then not in done:
                        heapq.heappush(queue, (moves + 1, cost + more, next(count), then))
        return None

    def _moved(self, now: State) -> Iterator[tuple[int, State]]:
        for source, there in enumerate(now):
            for item in there:
                occupant = self._of[item[0]]
                leave = occupant.movable
                if leave is None or (leave.budget and self._problem.budgets[leave.budget] < 1):
                    continue
                for target, host in enumerate(self._hosts):
                    if leave.how is How.LIVE and host.node == self._hosts[source].node:
                        continue
                    if host.uuid in self._drained:
                        continue
                    for profile_id, start in self._places(target, now[target], occupant.kind):
                        then = list(now)
                        then[source] = then[source] - {item}
                        then[target] = then[target] | {(occupant.id, profile_id, start)}
                        yield leave.cost, tuple(then)

    def _places(
        self, at: int, there: frozenset[tuple[str, int, int]], kind: str
    ) -> Iterator[tuple[int, int]]:
        host = self._hosts[at]
        profile_id = host.serves.get(kind)
        if not host.open or profile_id is None:
            return
        geometry = host.tables.geometry
        profile = geometry.by_id[profile_id]
        for placement in geometry.legal(self._state(geometry, there), profile):
            yield profile_id, placement.start

    def _state(self, geometry: Geometry, there: frozenset[tuple[str, int, int]]) -> Occupancy:
        state = geometry.empty
        for _, profile_id, start in there:
            size = geometry.by_id[profile_id].size
            state = geometry.occupied(state, profile_id, Placement(start, size))
        return state

    def _attained(self, now: State) -> bool:
        hosts = self._hosts
        if any(
            there and host.uuid in self._drained for host, there in zip(hosts, now, strict=True)
        ):
            return False
        kinds: list[str] = []
        gpus = nodes = 0
        for goal in self._problem.goals:
            if isinstance(goal, Admit):
                kinds += [each.kind for each in goal.wanted]
            elif isinstance(goal, Headroom):
                kinds += [goal.kind] * goal.count
            elif isinstance(goal, Consolidate):
                gpus, nodes = max(gpus, goal.gpus), max(nodes, goal.nodes)
        return self._all_fit(now, kinds, gpus, nodes)

    def _all_fit(self, now: State, kinds: list[str], gpus: int, nodes: int) -> bool:
        if not kinds:
            return self._empty(now, gpus, nodes)
        kind, *rest = kinds
        for at, host in enumerate(self._hosts):
            if host.uuid in self._drained:
                continue
            for profile_id, start in self._places(at, now[at], kind):
                then = list(now)
                then[at] = then[at] | {(f"wanted/{len(rest)}", profile_id, start)}
                if self._all_fit(tuple(then), rest, gpus, nodes):
                    return True
        return False

    def _empty(self, now: State, gpus: int, nodes: int) -> bool:
        empty = [
            host.open and host.uuid not in self._drained and not there
            for host, there in zip(self._hosts, now, strict=True)
        ]
        whole: dict[str, bool] = {}
        for host, is_ in zip(self._hosts, empty, strict=True):
            whole[host.node] = whole.get(host.node, True) and is_
        return sum(empty) >= gpus and sum(whole.values()) >= nodes
