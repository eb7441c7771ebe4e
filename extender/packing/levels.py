"""The model's levels, solved one after the other by CP-SAT, those before held.

Solved as one weighted sum, one burst in twelve took over 10 s; level by level, each takes
milliseconds. A level whose bound the best values known attain is not solved at all. Otherwise the
columns that the linear relaxation shows to be useless for attaining its bound are left out at
first: that is most of them, and what then attains the bound is optimal in the whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from ortools.sat.python import cp_model

from extender.packing.classes import Condensed
from extender.packing.model import Counts, build
from extender.packing.program import Level, Program
from extender.packing.relaxation import Relaxation
from extender.packing.seats import Tally

_SHARE_OF_NARROWED = 0.5
"""Of the time left, what the search among the useful columns may take: then all are tried."""


@dataclass(frozen=True)
class Solved:
    """What came of the levels.

    ``bounds`` has for each level what no counts exceed that attain the bounds before it, or None if
    it was not reached. ``counted`` are the best counts known, if any are; ``proven`` if they attain
    every bound. ``columns`` is the size of the model.
    """

    bounds: Sequence[int | None]
    columns: int
    counted: Tally | None = None
    proven: bool = False
    infeasible: bool = False


def solve_levels(
    condensed: Condensed,
    hint: Tally | None,
    *,
    left: Callable[[], float],
    seed: int,
    known: Sequence[int | None] = (),
) -> Solved:
    """Maximise level by level until all are proven, or ``left()``, in seconds, is 0.

    ``known`` are bounds that hold besides: each of plans that attain those before it.
    """
    program, counts = build(condensed)
    relaxation = Relaxation(program)
    best: Sequence[int] | None = None
    if hint is not None:
        best = _values(condensed, counts, hint, len(program.upper))
    bounds: list[int | None] = [None] * len(program.levels)
    proven = True
    for at, level in enumerate(program.levels):
        if list(known[:at]) == bounds[:at] and at < len(known):
            level = level.within(known[at])
        found = _solved(program, relaxation, level, best, left=left, seed=seed)
        if found.infeasible:
            if at == 0:
                return Solved(bounds, len(program.upper), infeasible=True)
            proven = False  # what is known says that no plan attains the bounds so far
            break
        best, bounds[at] = found.values, found.bound
        if best is None or level.sum(best) != found.bound:
            proven = False
            break
        program.hold(level, level.sum(best))
    counted = None if best is None else counts.tally(condensed, best)
    return Solved(bounds, len(program.upper), counted, proven)


@dataclass(frozen=True)
class Found:
    """The best values known of all columns, and the bound of the level searched."""

    values: Sequence[int] | None
    bound: int | None
    infeasible: bool = False


def _solved(
    program: Program,
    relaxation: Relaxation,
    level: Level,
    best: Sequence[int] | None,
    *,
    left: Callable[[], float],
    seed: int,
) -> Found:
    """Maximise one level, beginning with the best values known."""
    if best is not None and level.sum(best) == level.most:
        return Found(best, level.most)
    if left() <= 0:
        return Found(best, level.most)
    bound = relaxation.bound(level, seconds=left())
    if bound is not None:
        if best is not None and level.sum(best) == bound.most:
            return Found(best, bound.most)
        narrowed = search(
            program,
            level,
            best,
            bound.useful,
            seconds=left() * _SHARE_OF_NARROWED,
            seed=seed,
        )
        if narrowed.values is not None:
            if level.sum(narrowed.values) == bound.most:
                return Found(narrowed.values, bound.most)
            if best is None or level.sum(narrowed.values) > level.sum(best):
                best = narrowed.values
    if left() <= 0:
        return Found(best, level.most if bound is None else bound.most)
    every = np.ones(len(program.upper), dtype=np.bool_)
    whole = search(program, level, best, every, seconds=left(), seed=seed)
    known = [whole.bound, level.most, None if bound is None else bound.most]
    least = min((each for each in known if each is not None), default=None)
    return Found(whole.values, least, whole.infeasible)


def search(
    program: Program,
    level: Level,
    best: Sequence[int] | None,
    useful: NDArray[np.bool_],
    *,
    seconds: float,
    seed: int,
) -> Found:
    """Maximise a level by CP-SAT with only the useful columns above 0.

    What it finds before time is up may be worse than the *best* values known: these are kept then.
    """
    if program.needs_more_than(useful):
        return Found(None, None, infeasible=True)
    cp = cp_model.CpModel()
    variables = {
        column: cp.new_int_var(0, program.upper[column], "")
        for column in np.flatnonzero(useful).tolist()
    }

    def weighted(columns: Sequence[int], weights: Sequence[int]) -> cp_model.LinearExprT:
        return cp_model.LinearExpr.weighted_sum([variables[at] for at in columns], weights)

    for row, columns, weights in program.rows(useful):
        least, most = program.least[row], program.most[row]
        cp.add_linear_constraint(
            weighted(columns, weights),
            cp_model.INT_MIN if least is None else least,
            cp_model.INT_MAX if most is None else most,
        )
    kept = [
        (variables[column], weight)
        for column, weight in zip(level.columns, level.weights, strict=True)
        if column in variables
    ]
    objective = cp_model.LinearExpr.weighted_sum([v for v, _ in kept], [w for _, w in kept])
    cp.maximize(objective)
    if best is not None:
        for column, variable in variables.items():
            cp.add_hint(variable, best[column])
    if level.most is not None:
        cp.add(objective <= level.most)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = max(seconds, 0.0)
    solver.parameters.random_seed = seed
    solver.parameters.num_workers = 1
    solver.parameters.linearization_level = 2
    status = solver.solve(cp)
    if status == cp_model.MODEL_INVALID:
        raise ValueError(f"the packing model is invalid: {cp.validate()}")
    if status == cp_model.INFEASIBLE:
        return Found(None, None, infeasible=True)
    if status == cp_model.UNKNOWN:
        return Found(best, None)
    values = np.zeros(len(program.upper), dtype=np.int64)
    values[useful] = solver.response_proto.solution
    found: Sequence[int] = values.tolist()
    if best is not None and level.sum(best) > level.sum(found):
        found = best
    return Found(found, math.floor(solver.best_objective_bound + 0.5))


def _values(condensed: Condensed, counts: Counts, counted: Tally, columns: int) -> list[int]:
    """Return the value of each column."""
    values = [0] * columns
    for at, (each, receive) in enumerate(zip(condensed.classes, counts.receive, strict=True)):
        for (items, _), column in zip(each.offers, receive, strict=True):
            values[column] = counted.receive.get((at, items), 0)
    for at, column in enumerate(counts.admit):
        values[column] = counted.admit.get(at, 0)
    for shape, column in zip(condensed.demand.shapes, counts.gangs, strict=True):
        member, members = next(iter(shape.members.items()))
        values[column] = counted.admit.get(member, 0) // members
    for at, send in enumerate(counts.send):
        for group, column in send.items():
            values[column] = counted.send.get((at, group), 0)
    return values
