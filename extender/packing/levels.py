"""The model's levels, solved one after the other by CP-SAT, those before held.

Solved as one weighted sum, one burst in twelve took over 10 s; level by level, each takes
milliseconds. A level whose bound the best values known attain is not solved at all. Otherwise the
columns that the linear relaxation shows to be useless for attaining its bound are left out at
first: that is most of them, and what then attains the bound is optimal in the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from extender.packing.classes import Condensed
from extender.packing.model import Counts, build
from extender.packing.program import Level, Program
from extender.packing.relaxation import Relaxation
from extender.packing.search import Found, least_known, search
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


def _solved(
    program: Program,
    relaxation: Relaxation,
    level: Level,
    best: Sequence[int] | None,
    *,
    left: Callable[[], float],
    seed: int,
) -> Found:
    """Maximise one level, beginning with the best values known.

    First among the columns that may be above 0 where the bound is attained; if none of them does
    that, among those that may be where the best values known are exceeded.
    """
    if best is not None and level.sum(best) == level.most:
        return Found(best, level.most)
    if left() <= 0:
        return Found(best, level.most)
    bound = relaxation.bound(level, seconds=left())
    if bound is not None:
        level = level.within(bound.most)
        if best is None or level.sum(best) < bound.most:
            seconds = left() * _SHARE_OF_NARROWED
            narrowed = search(program, level, best, bound.useful, seconds=seconds, seed=seed)
            best = narrowed.values if narrowed.values is not None else best
            attainable = narrowed.bound is None or narrowed.bound >= bound.most
            if narrowed.infeasible or not attainable:
                level = level.within(bound.most - 1)
        if best is not None and level.sum(best) == level.most:
            return Found(best, level.most)
    if left() <= 0:
        return Found(best, level.most)
    if bound is None or best is None:
        columns = np.ones(len(program.upper), dtype=np.bool_)
    else:
        columns = bound.useful_for(level.sum(best) + 1)
    rest = search(program, level, best, columns, seconds=left(), seed=seed)
    if best is None:
        return Found(rest.values, least_known(rest.bound, level.most), rest.infeasible)
    known = level.sum(best)
    if rest.infeasible:
        return Found(best, known)
    most = None if rest.bound is None else max(rest.bound, known)
    return Found(rest.values, least_known(most, level.most))


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
