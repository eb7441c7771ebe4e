"""One level searched by CP-SAT: the best whole numbers, and what none exceeds.

Whether CP-SAT takes 15 ms or a minute for one of these models depends on chance more than on the
model, and a way to search that is slow for one is fast for another. So each is given a little
while in turn, then twice that. The while is CP-SAT's own measure of work done, not time, so that
the same problem has the same answer on every machine.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from extender.packing.cpsat import CpSolverStatus, Model, SatParameters
from extender.packing.program import Level, Program

_FIRST_WORK: Final = 0.025
"""What each way is given at first: some 50 ms; of 60 models, the usual way solved 55 within it."""

_WAYS: Final = (
    "",
    "search_branching: PORTFOLIO_WITH_QUICK_RESTART_SEARCH",
    "search_branching: LP_SEARCH",
    "hint_conflict_limit: 0",
)
"""CP-SAT's own choice; chance, begun anew often; the relaxation's fractions deciding where to
branch; the hint forgotten. Of six models of large fleets that the first way did not solve at once,
the second solved four within the first while and two within the next."""


@dataclass(frozen=True)
class Found:
    """The best values known of all columns, and the bound of the level searched."""

    values: Sequence[int] | None
    bound: int | None
    infeasible: bool = False


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
    cp = _model(program, level, best, useful)
    bound: int | None = None
    for parameters in _attempts(seed):
        parameters.max_time_in_seconds = max(seconds, 0.0)
        response = cp.solve(parameters)
        if response.status == CpSolverStatus.INFEASIBLE:
            return Found(None, None, infeasible=True)
        if response.status != CpSolverStatus.UNKNOWN:
            values = np.zeros(len(program.upper), dtype=np.int64)
            values[useful] = response.solution
            found: Sequence[int] = values.tolist()
            if best is None or level.sum(found) > level.sum(best):
                best = found
            bound = least_known(bound, math.floor(response.best_objective_bound + 0.5))
        seconds -= response.wall_time
        if response.status == CpSolverStatus.OPTIMAL or seconds <= 0:
            break
    return Found(best, bound)


def least_known(*bounds: int | None) -> int | None:
    """Return the least of those bounds that are known, if any is."""
    return min((each for each in bounds if each is not None), default=None)


def _attempts(seed: int) -> Iterator[SatParameters]:
    """Yield the ways to search, over and over, with ever more work allowed."""
    for at in itertools.count():
        doubled, way = divmod(at, len(_WAYS))
        parameters = SatParameters()
        parameters.merge_text_format(_WAYS[way])
        parameters.random_seed = seed
        parameters.num_workers = 1
        # It would leave SIGINT to its default after that: Ctrl-C would kill us where we stand.
        parameters.catch_sigint_signal = False
        parameters.linearization_level = 2
        parameters.max_deterministic_time = _FIRST_WORK * 2**doubled
        yield parameters


def _model(
    program: Program, level: Level, best: Sequence[int] | None, useful: NDArray[np.bool_]
) -> Model:
    """Return the program with only the useful columns, to attain as much of the level as can be."""
    cp = Model()
    numbers = {
        column: cp.number(program.upper[column]) for column in np.flatnonzero(useful).tolist()
    }
    for row, columns, weights in program.rows(useful):
        terms = zip((numbers[column] for column in columns), weights, strict=True)
        cp.limit(terms, program.least[row], program.most[row])
    objective = [
        (numbers[column], weight)
        for column, weight in zip(level.columns, level.weights, strict=True)
        if column in numbers
    ]
    cp.maximize(objective)
    if best is not None:
        cp.hint([best[column] for column in numbers])
    if level.most is not None:
        cp.limit(objective, most=level.most)
    return cp
