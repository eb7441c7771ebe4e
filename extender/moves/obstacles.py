"""Why goals cannot be attained: who may not be moved, and what there is no room for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from extender.moves.classes import Leaver, drained
from extender.moves.counting import Counted
from extender.moves.kinds import Kinds
from extender.moves.problem import Problem
from extender.moves.result import Obstacle

NO_ROOM = "there is no room, whatever is moved"
NO_ROOM_WITHIN = "there is no room within the limits of moves and cost"
NO_ROOM_GUARDED = "there is no room within what PodDisruptionBudgets allow"
NOT_SERVED = "no GPU takes it"
NOT_SO_MANY = "there can be no more empty, whatever is moved"


def things_asked(problem: Problem) -> int:
    """Return how many things the goals come to: places, VMs gone, GPUs and nodes emptied."""
    leaving = sum(len(host.occupants) for host in problem.hosts if host.uuid in problem.drained)
    return len(problem.wanted) + leaving + problem.empty_gpus + problem.empty_nodes


def obstacles(problem: Problem, known: Kinds, counted: Counted) -> Iterator[Obstacle]:
    """Yield what keeps the goals from being attained."""
    limited = problem.most_moves is not None or problem.most_cost is not None
    no_room = NO_ROOM_WITHIN if limited else NO_ROOM_GUARDED if _guarded(problem) else NO_ROOM
    yield from _on_drained_gpus(problem, known, counted, no_room)
    yield from _wanted(problem, known, counted, no_room)
    for kind, missing in (
        ("GPUs", problem.empty_gpus - counted.empty_gpus),
        ("nodes", problem.empty_nodes - counted.empty_nodes),
    ):
        if missing > 0:
            why = NOT_SO_MANY if no_room == NO_ROOM else no_room
            yield Obstacle(why, kind=kind, missing=missing)


def _guarded(problem: Problem) -> bool:
    """Tell whether a budget keeps somebody where it is who might be moved else."""
    return any(
        occupant.movable is not None and problem.leave(occupant) is None
        for host in problem.hosts
        for occupant in host.occupants
    )


def _on_drained_gpus(
    problem: Problem, known: Kinds, counted: Counted, no_room: str
) -> Iterator[Obstacle]:
    """Yield who may not leave, and of those who may, those for whom there is no room."""
    without = drained(problem, known)
    without.subtract(counted.drained)
    for host in problem.hosts:
        if host.uuid not in problem.drained:
            continue
        for occupant in host.occupants:
            leave, why = problem.leave(occupant), problem.why_staying(occupant)
            if leave is not None:
                leaver = Leaver(known.group[occupant.kind], leave.cost)
                if without[leaver] < 1:
                    continue
                without[leaver] -= 1
                why = no_room
            yield Obstacle(why, gpu=host.uuid, occupant=occupant.id)


def _wanted(problem: Problem, known: Kinds, counted: Counted, no_room: str) -> Iterator[Obstacle]:
    """Yield the kinds of which fewer find a place than are wanted."""
    left = Counter(dict(counted.admitted))
    for kind, many in Counter(each.kind for each in problem.wanted).items():
        group = known.group[kind]
        found = min(many, left[group])
        left[group] -= found
        if found < many:
            served = any(sort[group] is not None for sort in known.served)
            yield Obstacle(no_room if served else NOT_SERVED, kind=kind, missing=many - found)
