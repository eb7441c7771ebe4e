"""The linear relaxation, solved by GLOP: bounds, and what can be left out to attain them.

The bounds are exact: the solver's dual values are only a hint, from which integer arithmetic makes
a bound that holds whatever they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ortools.linear_solver.python.model_builder_helper import (
    ModelBuilderHelper,
    ModelSolverHelper,
    SolveStatus,
)

from extender.packing.program import Level, Program, Row

_UNIT = 1 << 40
"""Dual values are rounded to multiples of 1 / _UNIT; with counts to 10^6 that loses under 0.001."""


@dataclass(frozen=True)
class Bound:
    """What a level cannot exceed; ``useful`` are the columns that may be above 0 where it does."""

    most: int
    useful: Sequence[bool]


class Relaxation:
    """A program without its integrality."""

    def __init__(self, program: Program) -> None:
        self._upper = program.upper
        self._model = ModelBuilderHelper()
        self._rows: list[Row] = []
        for upper in program.upper:
            column = self._model.add_var()
            self._model.set_var_lower_bound(column, 0)
            self._model.set_var_upper_bound(column, upper)
        for row in program.rows:
            self.add(row)

    def add(self, row: Row) -> None:
        """Let a further row hold."""
        index = self._model.add_linear_constraint()
        least = -math.inf if row.least is None else row.least
        most = math.inf if row.most is None else row.most
        self._model.set_constraint_lower_bound(index, least)
        self._model.set_constraint_upper_bound(index, most)
        for column, weight in zip(row.columns, row.weights, strict=True):
            self._model.add_term_to_constraint(index, column, weight)
        self._rows.append(row)

    def bound(self, level: Level, *, seconds: float) -> Bound | None:
        """Return a bound of a level, or None if the relaxation was not solved in time."""
        gains = np.zeros(len(self._upper), dtype=np.int64)
        np.add.at(gains, list(level.columns), list(level.weights))
        self._model.clear_objective()
        self._model.set_maximize(True)
        for column in np.flatnonzero(gains).tolist():
            self._model.set_var_objective_coefficient(column, int(gains[column]))
        solver = ModelSolverHelper("glop")
        solver.set_time_limit_in_seconds(seconds)
        solver.solve(self._model)
        if solver.status() != SolveStatus.OPTIMAL:
            return None
        duals = np.asarray(solver.dual_values(), dtype=np.float64)
        return self._exact(gains.tolist(), [round(dual * _UNIT) for dual in duals.tolist()])

    def _exact(self, gains: Sequence[int], prices: Sequence[int]) -> Bound:
        """Return the bound that follows from a price, in units, for each row.

        For any prices of the right sign, no solution exceeds what the rows' limits cost plus, for
        each column, what is left of its gain after its share of the rows is paid.
        """
        total = 0
        left = [gain * _UNIT for gain in gains]
        for row, price in zip(self._rows, prices, strict=True):
            limit = row.most if price > 0 else row.least
            if limit is None or not price:  # a price of the wrong sign is rounding
                continue
            total += price * limit
            for column, weight in zip(row.columns, row.weights, strict=True):
                left[column] -= price * weight
        pairs = zip(left, self._upper, strict=True)
        total += sum(surplus * upper for surplus, upper in pairs if surplus > 0)
        most = total // _UNIT
        # One unit of a column with less left would take the sum below the bound.
        least = most * _UNIT - total
        return Bound(most, [surplus >= least for surplus in left])
