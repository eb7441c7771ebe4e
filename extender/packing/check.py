"""The judge of every solution: written from the rules, without a look at any solver.

``violations`` says everything that is wrong with a solution, ``score`` what a legal one is worth;
``certify`` lets only what passes both into service.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from extender.packing.problem import (
    Assignment,
    GpuModel,
    GpuState,
    Problem,
    Request,
    Solution,
)
from extender.packing.spread import Spread
from extender.packing.violations import (
    BrokenGang,
    IllegalPlacement,
    NodeNotAllowed,
    NotPlaced,
    NotServed,
    OverCap,
    Overlap,
    SplitOverNodes,
    TooManyInstances,
    UnknownGpu,
    UnknownRequest,
    Violation,
    WrongCount,
    WrongSpread,
)
from nodeagent.api.geometry import Occupancy


class Score(msgspec.Struct, frozen=True):
    """What a solution is worth, most important first.

    ``admitted`` are (priority, memory slices admitted), highest priority first; ``value`` is the
    policy's value of all GPUs afterwards minus before; ``newly_used`` counts GPUs that were empty.
    """

    admitted: tuple[tuple[int, int], ...]
    value: int
    newly_used: int

    @property
    def levels(self) -> tuple[int, ...]:
        """Numbers of which, level by level, more is better."""
        return (*(slices for _, slices in self.admitted), self.value, -self.newly_used)


class Refuted(Exception):
    """A solution may not be carried out, or is not worth what was claimed; the message says why."""


def certify(problem: Problem, solution: Solution, claimed: Sequence[int]) -> None:
    """Raise :class:`Refuted` unless a solution is legal and worth what is *claimed*.

    ``claimed`` has a number for each of the score's levels, or none where nothing is claimed.
    """
    wrong = list(violations(problem, solution))
    if wrong:
        raise Refuted(f"{len(wrong)} violations, the first: {wrong[0]}")
    worth = score(problem, solution).levels
    if claimed and tuple(claimed) != worth:
        raise Refuted(
            f"claimed {tuple(claimed)}, worth {worth} ({', '.join(level_names(problem))})"
        )


def level_names(problem: Problem) -> tuple[str, ...]:
    """Return what each of a score's levels counts."""
    priorities = (f"slices admitted, priority {priority}" for priority in problem.priorities)
    return (*priorities, "value", "minus GPUs newly used")


def violations(problem: Problem, solution: Solution) -> Iterator[Violation]:
    """Yield everything that is wrong with a solution; nothing if it may be carried out."""
    requests = {request.id: request for request in problem.requests}
    given: dict[str, list[Assignment]] = defaultdict(list)
    for assignment in solution.assignments:
        given[assignment.request].append(assignment)
    for id in given.keys() - requests.keys():
        yield UnknownRequest(id)
    yield from _on_gpus(problem, solution)
    for request in problem.requests:
        if request.id in given:
            yield from _of_request(request, given[request.id])
        elif request.required:
            yield NotPlaced(request.id)
    yield from _of_gangs(problem.requests, given)
    taken: Counter[str | None] = Counter()
    for request in problem.requests:
        if request.id in given:
            taken[request.tenant] += problem.slices(request)
    for tenant, cap in problem.caps.items():
        if taken[tenant] > cap:
            yield OverCap(tenant, taken[tenant], cap)


def score(problem: Problem, solution: Solution) -> Score:
    """Return what a solution without violations is worth."""
    placed = {assignment.request for assignment in solution.assignments}
    admitted = dict.fromkeys(problem.priorities, 0)
    for request in problem.requests:
        if request.id in placed:
            admitted[request.priority] += problem.slices(request)
    before = _states(problem, solution)
    now = dict(before)
    value = 0
    for each in solution.assignments:
        gpu = (each.node, each.gpu)
        value -= now[gpu].option(each.profile_id, each.placement).cost
        now[gpu] = now[gpu].after(each.profile_id, each.placement)
    newly_used = sum(state.occupancy.mask == 0 for state in before.values())
    return Score(tuple(admitted.items()), value, newly_used)


def _states(problem: Problem, solution: Solution) -> dict[tuple[str, str], GpuState]:
    """Return what the GPUs that are assigned to are like before, by node and UUID."""
    fleet = problem.fleet
    found = {}
    for name in {assignment.node for assignment in solution.assignments}:
        node = fleet.index.get(name)
        if node is None:
            continue
        for gpu in range(int(fleet.first[node]), int(fleet.first[node + 1])):
            found[name, fleet.uuids[gpu]] = fleet.states[fleet.state[gpu]]
    used = {(assignment.node, assignment.gpu) for assignment in solution.assignments}
    return {gpu: state for gpu, state in found.items() if gpu in used}


def _on_gpus(problem: Problem, solution: Solution) -> Iterator[Violation]:
    """Yield what cannot exist on the GPUs, beside what is on them and beside each other."""
    states = _states(problem, solution)
    now = {gpu: state.occupancy for gpu, state in states.items()}
    for each in solution.assignments:
        gpu = (each.node, each.gpu)
        if gpu not in states:
            yield UnknownGpu(each.request, each.node, each.gpu)
            continue
        model = states[gpu].model
        yield from _of_instance(each, model, now[gpu])
        now[gpu] = model.tables.geometry.occupied(now[gpu], each.profile_id, each.placement)


def _of_instance(each: Assignment, model: GpuModel, now: Occupancy) -> Iterator[Violation]:
    geometry = model.tables.geometry
    profile = model.profile(each.wanted)
    if profile is None or profile.id != each.profile_id:
        yield NotServed(each.request, each.wanted, each.gpu, each.profile_id)
        return
    if each.placement not in profile.placements:
        yield IllegalPlacement(each.request, each.gpu, profile.id, each.placement)
    if each.placement.mask & now.mask:
        yield Overlap(each.request, each.gpu, each.placement)
    if profile.limited and now.counts[geometry.limited.index(profile.id)] >= profile.max_instances:
        yield TooManyInstances(each.request, each.gpu, profile.id)


def _of_request(request: Request, given: Sequence[Assignment]) -> Iterator[Violation]:
    if sorted(each.wanted for each in given) != sorted(request.wanted):
        yield WrongCount(request.id)
    nodes = {each.node for each in given}
    if len(nodes) > 1:
        yield SplitOverNodes(request.id)
    if request.nodes is not None:
        for node in sorted(nodes - request.nodes):
            yield NodeNotAllowed(request.id, node)
    gpus = {(each.node, each.gpu) for each in given}
    same, distinct = request.spread is Spread.SAME, request.spread is Spread.DISTINCT
    if (same and len(gpus) > 1) or (distinct and len(gpus) < len(given)):
        yield WrongSpread(request.id)


def _of_gangs(
    requests: Sequence[Request], given: Mapping[str, Sequence[Assignment]]
) -> Iterator[Violation]:
    fates: dict[str, set[bool]] = defaultdict(set)
    for request in requests:
        if request.gang is not None:
            fates[request.gang].add(request.id in given)
    for gang, fate in fates.items():
        if len(fate) > 1:
            yield BrokenGang(gang)
