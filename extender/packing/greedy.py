"""One request after the other, each where ``packing.choose`` would put it.

The baseline a joint plan is compared with, its hint, and its fallback. What fits on one GPU takes
the cheapest GPU of all, ties going by precedence. A VM on several GPUs takes the cheapest of
the nodes looked at, the fullest first.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from extender.packing.board import Board
from extender.packing.classes import Condensed
from extender.packing.problem import Problem
from extender.packing.seats import Seat


def arrival_order(condensed: Condensed) -> list[int]:
    """Return the requests as kube-scheduler's queue has them: by priority, then by arrival."""
    requests = condensed.problem.requests
    return sorted(
        range(len(requests)), key=lambda at: (not requests[at].required, -requests[at].priority)
    )


def largest_first(condensed: Condensed) -> list[int]:
    """Return the requests by priority, then by memory slices, then kind by kind."""
    types = sorted(
        condensed.demand.types, key=lambda each: (not each.required, -each.priority, -each.slices)
    )
    return [request for each in types for request in each.requests]


def one_by_one(
    condensed: Condensed,
    order: Iterable[int],
    *,
    seats: Sequence[Seat] = (),
    nodes_looked_at: int | None = None,
) -> list[Seat]:
    """Place requests in *order* beside *seats*; return these and the new ones.

    The turn of a gang is that of its first member. ``condensed`` has groups as they come, not by
    node. ``nodes_looked_at`` bounds the nodes tried for a VM on several GPUs; None is all.
    """
    problem = condensed.problem
    board = Board(condensed, nodes_looked_at)
    for seat in seats:
        board.occupy(seat)
    caps = dict(problem.caps)
    done = {seat.request for seat in seats}
    for index in done:
        _charge(problem, caps, index)
    gangs: dict[str, list[int]] = {}
    for index, request in enumerate(problem.requests):
        if request.gang is not None:
            gangs.setdefault(request.gang, []).append(index)
    left = (index for index in order if index not in done)
    for (alone, _), run in itertools.groupby(left, key=lambda at: _like(board, at)):
        if alone:
            board.place(list(run))
            continue
        for index in run:
            gang = problem.requests[index].gang
            together = [index] if gang is None else gangs[gang]
            if index not in done:
                done.update(together)
                _place_all(board, problem, caps, together)
    return board.seats


def _like(board: Board, index: int) -> tuple[bool, int]:
    """Return what runs of requests that can be placed at once have in common."""
    request = board.problem.requests[index]
    alone = request.gang is None and request.tenant not in board.problem.caps
    return alone, board.demand.footprint_of[index]


def _place_all(
    board: Board, problem: Problem, caps: dict[str, int], together: Sequence[int]
) -> None:
    """Place requests all or none, within their tenants' caps."""
    before = dict(caps)
    mark = len(board.seats)
    for member in together:
        if not _charge(problem, caps, member) or not board.place([member]):
            board.undo(mark)
            caps.update(before)
            return


def _charge(problem: Problem, caps: dict[str, int], index: int) -> bool:
    """Take a request off its tenant's cap; return whether that allows it."""
    request = problem.requests[index]
    if request.tenant is None or request.tenant not in caps:
        return True
    caps[request.tenant] -= problem.slices(request)
    return caps[request.tenant] >= 0
