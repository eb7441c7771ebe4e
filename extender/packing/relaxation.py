"""The linear relaxation, solved by GLOP: bounds, and what can be left out to attain them.

The bounds are exact: the solver's dual values are only a hint, from which integer arithmetic makes
a bound that holds whatever they are. What the program gains between two bounds is added to what
GLOP has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from ortools.linear_solver import pywraplp  # type: ignore[attr-defined]

from extender.packing.program import Level, Program

_MOST_BITS = 40
"""Dual values are rounded to multiples of 2^-40; with counts to 10^6 that loses under 0.001."""

_SUM_BITS = 56
"""Prices are rounded further where sums of their products with weights would not fit here."""


@dataclass(frozen=True)
class Prices:
    """A price for each row, in units of ``1 / unit``, and what they leave of each column's gain."""

    unit: int
    rows: NDArray[np.int64]
    left: NDArray[np.int64]


@dataclass(frozen=True)
class Bound:
    """What a level cannot exceed; ``useful`` are the columns that may be above 0 where it does."""

    most: int
    useful: NDArray[np.bool_]
    prices: Prices


class Relaxation:
    """A program without its integrality.

    ``grows``: it will be solved many times, with ever more columns.
    """

    def __init__(self, program: Program, *, grows: bool = False) -> None:
        self._program = program
        self._solver = pywraplp.Solver.CreateSolver("GLOP")
        if grows:  # GLOP goes on from where it was only without preprocessing
            self._solver.SetSolverSpecificParametersAsString("use_preprocessing:false")
        self._columns: list[pywraplp.Variable] = []
        self._rows: list[pywraplp.Constraint] = []
        self._known: list[int] = []  # how many terms of each row are known
        self._terms: tuple[list[int], list[int], list[int]] = ([], [], [])
        self._gains: NDArray[np.int64] = np.zeros(0, dtype=np.int64)

    def bound(self, level: Level, *, seconds: float) -> Bound | None:
        """Return a bound of a level, or None if the relaxation was not solved in time."""
        self._follow()
        gains = self._maximise(level)
        self._solver.SetTimeLimit(max(1, round(seconds * 1000)))
        if self._solver.Solve() != pywraplp.Solver.OPTIMAL:
            return None
        return self._exact(gains, np.array([row.dual_value() for row in self._rows]))

    def values(self) -> NDArray[np.float64]:
        """Return the columns where the last bound was found; they need not be whole."""
        return np.array([column.solution_value() for column in self._columns])

    def _follow(self) -> None:
        """Add what the program has and the solver has not."""
        program, solver = self._program, self._solver
        for upper in program.upper[len(self._columns) :]:
            self._columns.append(solver.Var(0, upper, False, ""))
        for _ in program.rows[len(self._rows) :]:
            self._rows.append(solver.Constraint())
            self._known.append(-1)
        rows, columns, weights = self._terms
        for at, (row, there) in enumerate(zip(program.rows, self._rows, strict=True)):
            known = self._known[at]
            if known < 0:
                least = -math.inf if row.least is None else row.least
                there.SetBounds(least, math.inf if row.most is None else row.most)
            elif known == len(row.columns):
                continue
            first = max(known, 0)
            for column, weight in zip(row.columns[first:], row.weights[first:], strict=True):
                there.SetCoefficient(self._columns[column], weight)
            rows.extend([at] * (len(row.columns) - first))
            columns.extend(row.columns[first:])
            weights.extend(row.weights[first:])
            self._known[at] = len(row.columns)

    def _maximise(self, level: Level) -> NDArray[np.int64]:
        """Set the objective; return the gain of each column."""
        gains = np.zeros(len(self._columns), dtype=np.int64)
        np.add.at(gains, level.columns, level.weights)
        before = np.zeros_like(gains)
        before[: len(self._gains)] = self._gains
        objective = self._solver.Objective()
        for column in np.flatnonzero(gains != before).tolist():
            objective.SetCoefficient(self._columns[column], int(gains[column]))
        objective.SetMaximization()
        self._gains = gains
        return gains

    def _exact(self, gains: NDArray[np.int64], duals: NDArray[np.float64]) -> Bound | None:
        """Return the bound that follows from a price for each row.

        For any prices of the right sign, no solution exceeds what the rows' limits cost plus, for
        each column, what is left of its gain after its share of the rows is paid.
        """
        program = self._program
        rows, columns, weights = (np.array(each, dtype=np.int64) for each in self._terms)
        largest = max(float(np.abs(gains).max(initial=1)), 1.0)
        if rows.size:
            largest = max(largest, float((np.abs(duals[rows]) * np.abs(weights)).max()))
        bits = min(_MOST_BITS, _SUM_BITS - math.ceil(math.log2(largest)) - 6)
        if bits < 0:
            return None
        unit = 1 << bits
        prices = np.rint(duals * unit).astype(np.int64)
        total = 0
        for at, (row, price) in enumerate(zip(program.rows, prices.tolist(), strict=True)):
            limit = row.most if price > 0 else row.least
            if limit is None:  # a price of the wrong sign is rounding
                prices[at] = 0
            else:
                total += price * limit
        left = gains * unit
        np.subtract.at(left, columns, prices[rows] * weights)
        for at in np.flatnonzero(left > 0).tolist():
            total += int(left[at]) * program.upper[at]
        most = total // unit
        # One unit of a column with less left would take the sum below the bound.
        useful = left >= most * unit - total
        return Bound(most, useful, Prices(unit, prices, left))
