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

from extender.packing.glop import Glop
from extender.packing.program import Level, Program, Terms

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
    """What a level cannot exceed, and the prices from which that follows.

    ``paid`` is the bound before it was rounded down, in units of ``1 / prices.unit``.
    """

    most: int
    paid: int
    prices: Prices

    @property
    def useful(self) -> NDArray[np.bool_]:
        """The columns that may be above 0 where the level is ``most``."""
        return self.useful_for(self.most)

    def useful_for(self, least: int) -> NDArray[np.bool_]:
        """Return the columns that may be above 0 where the level is *least* or more."""
        # One unit of a column with less left would take the sum below that.
        return self.prices.left >= least * self.prices.unit - self.paid


class Relaxation:
    """A program without its integrality.

    ``grows``: it will be solved many times, with ever more columns.
    """

    def __init__(self, program: Program, *, grows: bool = False) -> None:
        self._program = program
        self._glop = Glop(grows=grows)
        self._columns = self._rows = self._terms = 0  # how many are known
        self._values: NDArray[np.float64] = np.zeros(0)

    def bound(self, level: Level, *, seconds: float) -> Bound | None:
        """Return a bound of a level, or None if the relaxation was not solved in time."""
        gains = self._follow(level)
        optimum = self._glop.solve(seconds=seconds)
        if optimum is None:
            return None
        self._values = optimum.values
        return self._exact(gains, optimum.duals, level.most)

    def values(self) -> NDArray[np.float64]:
        """Return the columns where the last bound was found; they need not be whole."""
        return self._values

    def _follow(self, level: Level) -> NDArray[np.int64]:
        """Add what the program has and GLOP has not; return the gain of each column."""
        program = self._program
        terms = program.terms()
        gains = np.zeros(len(program.upper), dtype=np.int64)
        np.add.at(gains, level.columns, level.weights)
        self._glop.follow(
            program.upper[self._columns :],
            [-math.inf if each is None else each for each in program.least[self._rows :]],
            [math.inf if each is None else each for each in program.most[self._rows :]],
            Terms(*(each[self._terms :] for each in terms)),
            gains,
        )
        self._columns, self._rows = len(program.upper), len(program.least)
        self._terms = len(terms.rows)
        return gains

    def _exact(
        self, gains: NDArray[np.int64], duals: NDArray[np.float64], known: int | None
    ) -> Bound | None:
        """Return the bound that follows from a price for each row, or the one *known* if lower.

        For any prices of the right sign, no solution exceeds what the rows' limits cost plus, for
        each column, what is left of its gain after its share of the rows is paid.
        """
        program = self._program
        rows, columns, weights = program.terms()
        largest = max(float(np.abs(gains).max(initial=1)), 1.0)
        if rows.size:
            largest = max(largest, float((np.abs(duals[rows]) * np.abs(weights)).max()))
        bits = min(_MOST_BITS, _SUM_BITS - math.ceil(math.log2(largest)) - 6)
        if bits < 0:
            return None
        unit = 1 << bits
        prices = np.rint(duals * unit).astype(np.int64)
        for at in np.flatnonzero(prices).tolist():
            if (program.most if prices[at] > 0 else program.least)[at] is None:
                prices[at] = 0  # a price of the wrong sign is rounding
        total = program.paid(prices)
        left = gains * unit
        np.subtract.at(left, columns, prices[rows] * weights)
        for at in np.flatnonzero(left > 0).tolist():
            total += int(left[at]) * program.upper[at]
        most = total // unit if known is None else min(total // unit, known)
        return Bound(most, total, Prices(unit, prices, left))
