"""The door to OR-Tools for what no policy can exceed: what can be held at all, and flow bounds."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from extender.packing.cpsat import CpSolverStatus, Model, SatParameters, Term


class Unsolved(Exception):
    """The solver came to no proven answer."""


class Move(msgspec.Struct, frozen=True):
    """A placement that takes a GPU from one state to another; ``kind`` is what is placed."""

    kind: int
    before: int
    after: int


def covers(
    counts: Sequence[int], gpus: Sequence[int], contents: Sequence[Sequence[tuple[int, ...]]]
) -> bool:
    """Tell whether GPUs can be filled so that they hold *counts* of each kind.

    ``gpus`` is the number of GPUs in each group, ``contents`` what one of them can hold.
    """
    model = Model()
    held: list[list[Term]] = [[] for _ in counts]
    for number, ways in zip(gpus, contents, strict=True):
        filled = _filled(model, number, ways)
        for gpus_so, content in zip(filled, ways, strict=True):
            for kind, amount in enumerate(content):
                held[kind].append((gpus_so, amount))
    for terms, count in zip(held, counts, strict=True):
        model.limit(terms, least=count)
    return _feasible(model)


def shared_out(
    counts: Sequence[int],
    columns: Sequence[Sequence[int | None]],
    gpus: Sequence[int],
    contents: Sequence[Sequence[tuple[int, ...]]],
) -> bool:
    """Tell whether *counts* of each kind can be shared out among GPUs that hold all of it.

    ``gpus`` is the number of GPUs in each group, ``contents`` what one of them can hold, and
    ``columns``, for each kind and group, where in such a content what serves it stands.
    """
    model = Model()
    served: list[list[list[int]]] = [[[] for _ in ways[0]] for ways in contents]
    for count, of in zip(counts, columns, strict=True):
        parts = []
        for group, column in enumerate(of):
            if column is not None:
                parts.append(model.number(count))
                served[group][column].append(parts[-1])
        model.limit([(part, 1) for part in parts], least=count, most=count)
    for group, (number, ways) in enumerate(zip(gpus, contents, strict=True)):
        filled = _filled(model, number, ways)
        for column, parts in enumerate(served[group]):
            held = [(each, way[column]) for way, each in zip(ways, filled, strict=True)]
            if parts:
                model.limit([*held, *((part, -1) for part in parts)], least=0)
    return _feasible(model)


def _filled(model: Model, gpus: int, ways: Sequence[tuple[int, ...]]) -> list[int]:
    """Return how many of some GPUs are filled in each of these ways, as numbers of the model."""
    filled = [model.number(gpus) for _ in ways]
    model.limit([(each, 1) for each in filled], most=gpus)
    return filled


def _feasible(model: Model) -> bool:
    parameters = SatParameters()
    parameters.num_workers = 1
    parameters.catch_sigint_signal = False  # or Ctrl-C would be nobody's after that
    match model.solve(parameters).status:
        case CpSolverStatus.OPTIMAL | CpSolverStatus.FEASIBLE:
            return True
        case CpSolverStatus.INFEASIBLE:
            return False
        case other:
            raise Unsolved(f"covering: {other.name}")


def best_flow(
    instances: Sequence[int],
    departures: Sequence[tuple[int, int]],
    moves: Sequence[Move],
    arriving: Sequence[float],
    worth: Sequence[float],
) -> float:
    """Return the most worth per time that one GPU can admit in the long run.

    State number s holds ``instances[s]``, each of which leaves at rate 1; ``departures`` are (from,
    to) pairs. Kind k arrives at rate ``arriving[k]`` and is worth ``worth[k]``.
    """
    # Here, not above: it loads pandas, and is for simulations alone.
    from ortools.linear_solver.python import model_builder

    model = model_builder.Model()  # type: ignore[no-untyped-call]
    share = [model.new_num_var(0.0, 1.0, "") for _ in instances]
    rate = [model.new_num_var(0.0, float("inf"), "") for _ in moves]
    gains: list[list[model_builder.LinearExprT]] = [[] for _ in instances]
    for state, count in enumerate(instances):
        gains[state].append(-count * share[state])
    for before, after in departures:
        gains[after].append(share[before])
    for variable, move in zip(rate, moves, strict=True):
        gains[move.before].append(-variable)
        gains[move.after].append(variable)
    for terms in gains:
        model.add(model_builder.LinearExpr.sum(terms) == 0.0)
    model.add(model_builder.LinearExpr.sum(share) == 1.0)
    for kind, limit in enumerate(arriving):
        placed = [v for v, move in zip(rate, moves, strict=True) if move.kind == kind]
        model.add(model_builder.LinearExpr.sum(placed) <= limit)
    values = [worth[move.kind] for move in moves]
    model.maximize(model_builder.LinearExpr.weighted_sum(rate, values))
    solver = model_builder.Solver("GLOP")
    status = solver.solve(model)
    if status != model_builder.SolveStatus.OPTIMAL:
        raise Unsolved(f"flow bound: {status.name}")
    return float(solver.objective_value)
