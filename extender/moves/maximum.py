"""The levels of a program with many columns, one after the other, to proven optimality.

The linear relaxation's prices tell which columns a solution may use that is within so much of the
bound: that is few of them. These are searched; where nothing is found so near the bound, the
columns of solutions a little farther away join them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from extender.packing.program import Level, Program
from extender.packing.relaxation import Relaxation
from extender.packing.search import search


def maximum(
    program: Program, levels: Sequence[Level], *, left: Callable[[], float], seed: int
) -> tuple[Sequence[int], list[int | None]]:
    """Return the best values found of a program that 0 everywhere solves, and the levels' bounds.

    A bound is of solutions that attain those before it; None where it was not come to. The first
    level is taken to be what its relaxation says unless the second has no solution then: mostly it
    is, and to find that out by itself takes longer than all the rest.
    """
    relaxation = Relaxation(program)
    values: Sequence[int] = [0] * len(program.upper)
    bounds: list[int | None] = [None] * len(levels)
    start = 0
    presumed = relaxation.bound(levels[0], seconds=left()) if left() > 0 else None
    if presumed is not None:
        row = program.hold(levels[0], presumed.most)
        found = _best(program, relaxation, levels[1], None, left=left, seed=seed)
        if found is None:
            program.release(row)
        else:
            bounds[0], (values, bounds[1]) = presumed.most, found
            if levels[1].sum(values) != bounds[1]:
                return values, bounds
            program.hold(levels[1], levels[1].sum(values))
            start = 2
    for at, level in enumerate(levels[start:], start):
        found = _best(program, relaxation, level, values, left=left, seed=seed)
        assert found is not None  # there is something to begin with
        values, bounds[at] = found
        if level.sum(values) != bounds[at]:
            break
        program.hold(level, level.sum(values))
    return values, bounds


def _best(
    program: Program,
    relaxation: Relaxation,
    level: Level,
    best: Sequence[int] | None,
    *,
    left: Callable[[], float],
    seed: int,
) -> tuple[Sequence[int], int | None] | None:
    """Return the best values and the bound of a level; None if there are none, or none known."""
    bound = relaxation.bound(level, seconds=left()) if left() > 0 else None
    if bound is None:
        return None if best is None else (best, level.most)
    level = level.within(bound.most)
    most, slack = bound.most, 0
    while left() > 0:
        if best is not None and level.sum(best) >= most:
            return best, level.sum(best)
        columns = bound.useful_for(bound.most - slack)
        found = search(program, level, best, columns, seconds=left(), seed=seed)
        best = best if found.values is None else found.values
        within = found.bound
        if within is None and not found.infeasible:
            break  # time is up
        # No solution is better than those of these columns, or it is farther from the bound.
        beyond = None if columns.all() else bound.most - slack - 1
        known = [each for each in (within, beyond) if each is not None]
        if not known:
            return None  # infeasible with all columns
        most = min(most, max(known))
        if beyond is None or (within is not None and (best is None or level.sum(best) < within)):
            break  # all columns were there, or time is up
        slack = 2 * slack + 1
    return None if best is None else (best, max(most, level.sum(best)))
