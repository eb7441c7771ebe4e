"""GPUs that are alike: the same on them, as movable and at the same cost."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from extender.moves.choices import Choice, Instance, choices
from extender.moves.kinds import Kinds
from extender.moves.problem import Problem


class Leaver(NamedTuple):
    """One that may leave a GPU of a class: its group, and what that costs."""

    group: int
    cost: int


class GpuClass(NamedTuple):
    """GPUs, by index among the hosts, that are alike; ``choices`` are what may become of each."""

    hosts: list[int]
    sort: int
    leavers: tuple[Leaver, ...]
    choices: tuple[Choice, ...]


def drained(problem: Problem, kinds: Kinds) -> Counter[Leaver]:
    """Count who may leave drained GPUs."""
    return Counter(
        Leaver(kinds.group[occupant.kind], leave.cost)
        for host in problem.hosts
        if host.uuid in problem.drained
        for occupant in host.occupants
        if (leave := problem.leave(occupant)) is not None
    )


def classes(problem: Problem, kinds: Kinds) -> list[GpuClass]:
    """Return the classes of the GPUs to which something may come."""
    found: dict[object, GpuClass] = {}
    for at, sort in enumerate(kinds.sort):
        if sort is None:
            continue
        leavers, movable, staying = _leaving(problem, kinds, at)
        key = (sort, leavers, movable, staying)
        if key not in found:
            made = choices(kinds.tables[sort], staying, movable, kinds.profiles(sort))
            found[key] = GpuClass([], sort, leavers, made)
        found[key].hosts.append(at)
    return list(found.values())


def _leaving(
    problem: Problem, kinds: Kinds, at: int
) -> tuple[tuple[Leaver, ...], tuple[Instance, ...], tuple[Instance, ...]]:
    """Return who may leave a host, where they are, and what stays there."""
    leavers, movable, staying = [], [], []
    for occupant in problem.hosts[at].occupants:
        leave, instance = problem.leave(occupant), (occupant.profile_id, occupant.placement)
        if leave is None:
            staying.append(instance)
        else:
            leavers.append(Leaver(kinds.group[occupant.kind], leave.cost))
            movable.append(instance)
    return tuple(leavers), tuple(movable), tuple(staying)
