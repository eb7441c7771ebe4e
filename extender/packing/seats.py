"""Assignments by index, while a plan is being made: names come at the end."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from extender.packing.bundles import Counts
from extender.packing.classes import Condensed
from extender.packing.problem import Assignment, Fleet, Problem, Solution
from extender.packing.suites import Suite
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
    requests are admitted, by type; ``send``: how many go where, by (footprint, group). GPUs that
    give something to ``suites`` are counted in ``give``, by (class, share, all that they receive),
    and nowhere else.
    """

    receive: Mapping[tuple[int, Counts], int]
    admit: Mapping[int, int]
    send: Mapping[tuple[int, int], int]
    suites: Sequence[Suite] = ()
    give: Mapping[tuple[int, Counts, Counts], int] = field(default_factory=dict)


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


def occupied(fleet: Fleet, seats: Iterable[Seat]) -> Fleet:
    """Return the fleet with the seats taken."""
    states = list(fleet.states)
    known = {each: index for index, each in enumerate(states)}
    state = fleet.state.copy()
    for seat in seats:
        now = states[state[seat.gpu]]
        then = now.after(seat.profile_id, seat.placement)
        state[seat.gpu] = known.setdefault(then, len(known))
        if len(known) > len(states):
            states.append(then)
    return Fleet(fleet.nodes, fleet.first, fleet.uuids, states, state)


def tally(condensed: Condensed, seats: Iterable[Seat]) -> Tally:
    """Count what seats amount to; each request among them has all of its seats."""
    seats = list(seats)
    demand, fleet = condensed.demand, condensed.problem.fleet
    kinds = demand.footprints
    # What is on one GPU is one item, whatever the number of vGPUs.
    alone = [each.items[0] if each.on_one_gpu else None for each in kinds]
    item_of = [dict(zip(each.wanted, each.items, strict=False)) for each in kinds]
    gpus = [seat.gpu for seat in seats]
    groups = condensed.group[fleet.node_of[gpus]].tolist() if gpus else []
    send: dict[tuple[int, int], int] = defaultdict(int)
    on: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0] * len(demand.items))
    seen: set[int] = set()
    for (request, wanted, gpu, _, _), group in zip(seats, groups, strict=True):
        at = demand.footprint_of[request]
        item = alone[at]
        if request not in seen:
            seen.add(request)
            send[at, group] += 1
        elif item is not None:
            continue
        on[gpu, group][item_of[at][wanted] if item is None else item] += 1
    states = fleet.state[[gpu for gpu, _ in on]].tolist() if on else []
    receive = Counter(
        (condensed.class_of[group, state], tuple(held))
        for ((_, group), held), state in zip(on.items(), states, strict=True)
    )
    admit = {at: len(seen.intersection(each.requests)) for at, each in enumerate(demand.types)}
    return Tally(receive, admit, send)
