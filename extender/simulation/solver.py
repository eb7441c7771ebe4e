"""The door to OR-Tools for what no policy can exceed: what can be held at all, and flow bounds."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from ortools.sat.python import cp_model


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
    model = cp_model.CpModel()
    held: list[list[cp_model.LinearExprT]] = [[] for _ in counts]
    for number, ways in zip(gpus, contents, strict=True):
        filled = [model.new_int_var(0, number, "") for _ in ways]
        model.add(sum(filled) <= number)
        for variable, content in zip(filled, ways, strict=True):
            for kind, amount in enumerate(content):
                if amount:
                    held[kind].append(amount * variable)
    for kind, count in enumerate(counts):
        model.add(sum(held[kind]) >= count)
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
    model = cp_model.CpModel()
    served: list[list[list[cp_model.IntVar]]] = [[[] for _ in ways[0]] for ways in contents]
    for count, of in zip(counts, columns, strict=True):
        parts = []
        for group, column in enumerate(of):
            if column is not None:
                parts.append(model.new_int_var(0, count, ""))
                served[group][column].append(parts[-1])
        model.add(sum(parts) == count)
    for group, (number, ways) in enumerate(zip(gpus, contents, strict=True)):
        filled = [model.new_int_var(0, number, "") for _ in ways]
        model.add(sum(filled) <= number)
        for column, parts in enumerate(served[group]):
            if parts:
                held = [way[column] * each for way, each in zip(ways, filled, strict=True)]
                model.add(sum(held) >= sum(parts))
    return _feasible(model)


def _feasible(model: cp_model.CpModel) -> bool:
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.catch_sigint_signal = False  # or Ctrl-C would be nobody's after that
    match solver.solve(model):
        case cp_model.OPTIMAL | cp_model.FEASIBLE:
            return True
        case cp_model.INFEASIBLE:
            return False
        case other:
            raise Unsolved(f"covering: {solver.status_name(other)}")


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
    # Here, not above: this is for simulations alone, and what decides loads the rest.
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
