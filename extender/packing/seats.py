"""Assignments by index, while a plan is being made: names come at the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from extender.packing.bundles import Counts
from extender.packing.classes import Condensed
from extender.packing.problem import Assignment, Problem, Solution
from nodeagent.api.geometry import Placement


class Seat(NamedTuple):
    """One vGPU's place; ``request`` and ``gpu`` are indices into the problem's."""

    request: int
    wanted: str
    gpu: int
    profile_id: int
    placement: Placement


@dataclass(frozen=True)
class Tally:
    """A plan in counts; what is not mentioned is 0.

    ``receive``: how many GPUs of a class receive a bundle, by (class, items); ``admit``: how many
    requests are admitted, by (type, group).
    """

    receive: Mapping[tuple[int, Counts], int]
    admit: Mapping[tuple[int, int], int]


def named(problem: Problem, seats: Iterable[Seat]) -> Solution:
    """Return the seats as assignments, with the names of requests, nodes and GPUs."""
    fleet = problem.fleet
    seats = list(seats)
    nodes = fleet.node_of[[seat.gpu for seat in seats]].tolist() if seats else []
    return Solution(
        tuple(
            Assignment(
                problem.requests[seat.request].id,
                seat.wanted,
                fleet.nodes[node],
                fleet.uuids[seat.gpu],
                seat.profile_id,
                seat.placement,
            )
            for seat, node in zip(seats, nodes, strict=True)
        )
    )


def tally(condensed: Condensed, seats: Iterable[Seat]) -> Tally:
    """Count what seats amount to; each request among them has all of its seats."""
    types = condensed.demand.types
    type_of = {request: at for at, each in enumerate(types) for request in each.requests}
    item_of = [dict(zip(each.wanted, each.items, strict=False)) for each in types]
    fleet = condensed.problem.fleet
    admitted: dict[int, int] = {}
    on: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for seat in seats:
        at = type_of[seat.request]
        if types[at].on_one_gpu and seat.request in admitted:
            continue  # all of it is one item, which is counted
        admitted[seat.request] = seat.gpu
        item = types[at].items[0] if types[at].on_one_gpu else item_of[at][seat.wanted]
        on[seat.gpu][item] += 1
    receive: dict[tuple[int, Counts], int] = defaultdict(int)
    for gpu, held in on.items():
        items = tuple(held.get(item, 0) for item in range(len(condensed.demand.items)))
        group = int(condensed.group[fleet.node_of[gpu]])
        receive[condensed.class_of[group, int(fleet.state[gpu])], items] += 1
    admit: dict[tuple[int, int], int] = defaultdict(int)
    for request, gpu in admitted.items():
        admit[type_of[request], int(condensed.group[fleet.node_of[gpu]])] += 1
    return Tally(receive, admit)
