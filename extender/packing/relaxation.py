"""The linear relaxation, solved by GLOP: bounds, and what can be left out to attain them.

The bounds are exact: the solver's dual values are only a hint, from which integer arithmetic makes
a bound that holds whatever they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from ortools.linear_solver.python.model_builder_helper import (
    ModelBuilderHelper,
    ModelSolverHelper,
    SolveStatus,
)

from extender.packing.program import Level, Program, Row

_UNIT = 1 << 36
"""Dual values are rounded to multiples of 1 / _UNIT; with counts to 10^6 that loses under 0.01."""


@dataclass(frozen=True)
class Bound:
    """What a level cannot exceed; ``useful`` are the columns that may be above 0 where it does.

    ``useful`` is a boolean for each column.
    """

    most: int
    useful: NDArray[np.bool_]


class Relaxation:
    """A program without its integrality."""

    def __init__(self, program: Program) -> None:
        self._upper = np.array(program.upper, dtype=np.int64)
        self._model = ModelBuilderHelper()
        self._columns: list[NDArray[np.int64]] = []
        self._weights: list[NDArray[np.int64]] = []
        self._limits: list[Row] = []
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
        self._columns.append(np.array(row.columns, dtype=np.int64))
        self._weights.append(np.array(row.weights, dtype=np.int64))
        self._limits.append(row)

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
        return self._exact(gains, np.rint(duals * _UNIT).astype(np.int64))

    def _exact(self, gains: NDArray[np.int64], prices: NDArray[np.int64]) -> Bound:
        """Return the bound that follows from a price, in units, for each row.

        For any prices of the right sign, no solution exceeds what the rows' limits cost plus, for
        each column, what is left of its gain after its share of the rows is paid.
        """
        total = 0
        for at, row in enumerate(self._limits):
            limit = row.most if prices[at] > 0 else row.least
            if limit is None:  # a price of the wrong sign is rounding
                prices[at] = 0
            else:
                total += int(prices[at]) * limit
        left = gains * _UNIT
        for columns, weights, price in zip(self._columns, self._weights, prices, strict=True):
            left[columns] -= weights * price  # a row names a column once
        surplus = np.maximum(left, 0)
        total += sum(a * b for a, b in zip(surplus.tolist(), self._upper.tolist(), strict=True))
        most = total // _UNIT
        # One unit of a column with so little left would take the sum below the bound.
        return Bound(most, left >= most * _UNIT - total)
