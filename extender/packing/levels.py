"""The model's levels, solved one after the other with those before held.

Solved as one weighted sum, one burst in twelve took over 10 s; level by level, each takes
milliseconds. A level whose certain bound the hint attains is not solved at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ortools.sat.python import cp_model
from ortools.sat.python.cp_model import IntVar

from extender.packing.classes import Condensed
from extender.packing.model import Level, PackingModel
from extender.packing.seats import Tally


@dataclass(frozen=True)
class Solved:
    """What came of the levels.

    ``bounds`` has for each level what no counts exceed that attain the bounds before it, or None if
    it was not reached. ``counted`` are the best counts known, if any are; ``proven`` if they attain
    every bound.
    """

    bounds: Sequence[int | None]
    counted: Tally | None = None
    proven: bool = False
    infeasible: bool = False


def solve_levels(
    condensed: Condensed,
    model: PackingModel,
    hint: Tally | None,
    *,
    left: Callable[[], float],
    seed: int,
) -> Solved:
    """Maximise level by level until all are proven, or ``left()``, in seconds, is 0."""
    best = None if hint is None else _values(condensed, model, hint)
    bounds: list[int | None] = [None] * len(model.levels)
    proven = True
    for at, level in enumerate(model.levels):
        if best is not None and _sum(level, best) == level.most:
            bounds[at] = level.most
        else:
            solver = _solver(max(left(), 0.0), seed)
            _aim(model, level, best)
            status = solver.solve(model.cp)
            if status == cp_model.MODEL_INVALID:
                raise ValueError(f"the packing model is invalid: {model.cp.validate()}")
            if status == cp_model.INFEASIBLE:
                return Solved(bounds, infeasible=True)
            if status != cp_model.UNKNOWN:
                found = list(solver.response_proto.solution)
                if best is None or _sum(level, found) > _sum(level, best):
                    best = found
                bounds[at] = math.floor(solver.best_objective_bound + 0.5)
            if best is None or status != cp_model.OPTIMAL:
                proven = False
                break
        model.cp.add(level.sum >= _sum(level, best))
    counted = None if best is None else _tally(condensed, model, best)
    return Solved(bounds, counted, proven)


def _solver(seconds: float, seed: int) -> cp_model.CpSolver:
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.random_seed = seed
    solver.parameters.num_workers = 1
    solver.parameters.linearization_level = 2
    return solver


def _aim(model: PackingModel, level: Level, best: Sequence[int] | None) -> None:
    """Let the model maximise a level, beginning with the best values known."""
    model.cp.maximize(level.sum)
    model.cp.proto.clear_solution_hint()
    if best is not None:
        for variable in _variables(model):
            model.cp.add_hint(variable, best[variable.index])


def _variables(model: PackingModel) -> Iterator[IntVar]:
    for receive in model.counts.receive:
        yield from receive
    yield from model.counts.admit
    yield from model.counts.gangs
    for send in model.counts.send:
        yield from send.values()


def _sum(level: Level, values: Sequence[int]) -> int:
    weighted = zip(level.variables, level.weights, strict=True)
    return sum(weight * values[variable.index] for variable, weight in weighted)


def _values(condensed: Condensed, model: PackingModel, counted: Tally) -> list[int]:
    """Return the value of each variable, by its index."""
    values = [0] * len(model.cp.proto.variables)
    for at, (each, receive) in enumerate(zip(condensed.classes, model.counts.receive, strict=True)):
        for (items, _), variable in zip(each.offers, receive, strict=True):
            values[variable.index] = counted.receive.get((at, items), 0)
    for at, variable in enumerate(model.counts.admit):
        values[variable.index] = counted.admit.get(at, 0)
    for shape, variable in zip(condensed.demand.shapes, model.counts.gangs, strict=True):
        member, members = next(iter(shape.members.items()))
        values[variable.index] = counted.admit.get(member, 0) // members
    for at, send in enumerate(model.counts.send):
        for group, variable in send.items():
            values[variable.index] = counted.send.get((at, group), 0)
    return values


def _tally(condensed: Condensed, model: PackingModel, values: Sequence[int]) -> Tally:
    receive = {
        (at, items): values[variable.index]
        for at, (each, receive) in enumerate(
            zip(condensed.classes, model.counts.receive, strict=True)
        )
        for (items, _), variable in zip(each.offers, receive, strict=True)
    }
    admit = {at: values[variable.index] for at, variable in enumerate(model.counts.admit)}
    send = {
        (at, group): values[variable.index]
        for at, send in enumerate(model.counts.send)
        for group, variable in send.items()
    }
    return Tally(receive, admit, send)
