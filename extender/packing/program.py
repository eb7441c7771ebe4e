"""An integer linear program, as plain numbers: no solver's types.

The terms of all rows are three lists side by side, because solvers take them in bulk.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Level:
    """A sum to be made as large as can be; ``most`` is what it certainly cannot exceed."""

    columns: list[int]
    weights: list[int]
    most: int | None = None

    def within(self, most: int | None) -> Level:
        """Return the level with what else it cannot exceed, if that is known."""
        known = [each for each in (self.most, most) if each is not None]
        return replace(self, most=min(known, default=None))

    def sum(self, values: Sequence[int]) -> int:
        """Return the sum for the values of all columns; those that joined since then are 0."""
        pairs = zip(self.columns, self.weights, strict=True)
        return sum(weight * values[column] for column, weight in pairs if column < len(values))


class Terms(NamedTuple):
    """Weights of columns in rows, in no order: entry by entry."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    weights: NDArray[np.int64]


@dataclass
class Program:
    """Columns are integers from 0 to ``upper``; all rows hold; levels in order of importance.

    A row's sum is between its ``least`` and its ``most``; None is no limit.
    """

    upper: list[int] = field(default_factory=list)
    least: list[int | None] = field(default_factory=list)
    most: list[int | None] = field(default_factory=list)
    levels: list[Level] = field(default_factory=list)
    _rows: list[int] = field(default_factory=list)
    _columns: list[int] = field(default_factory=list)
    _weights: list[int] = field(default_factory=list)
    _terms: Terms = field(default_factory=lambda: Terms(*np.zeros((3, 0), dtype=np.int64)))

    def column(self, upper: int) -> int:
        """Add a column; return its index."""
        self.upper.append(upper)
        return len(self.upper) - 1

    def columns(self, upper: Iterable[int]) -> list[int]:
        """Add columns; return their indices."""
        first = len(self.upper)
        self.upper.extend(upper)
        return list(range(first, len(self.upper)))

    def at_most(self, columns: Sequence[int], weights: Sequence[int], most: int) -> int:
        """Add a row that is bounded above; return its index."""
        return self._row(columns, weights, None, most)

    def equal(self, columns: Sequence[int], weights: Sequence[int], value: int) -> int:
        """Add an equation; return its index."""
        return self._row(columns, weights, value, value)

    def at_least(self, columns: Sequence[int], weights: Sequence[int], least: int) -> int:
        """Add a row that is bounded below; return its index."""
        return self._row(columns, weights, least, None)

    def hold(self, level: Level, least: int) -> int:
        """Let a level be *least* or more from now on; return the index of the row."""
        return self._row(level.columns, level.weights, least, None)

    def release(self, row: int) -> None:
        """Let a row's sum be anything from now on."""
        self.least[row] = self.most[row] = None

    def join(self, column: int, row: int, weight: int) -> None:
        """Let a column count in a row in which it does not yet."""
        self._rows.append(row)
        self._columns.append(column)
        self._weights.append(weight)

    def terms(self) -> Terms:
        """Return the terms of all rows in the order in which they came."""
        known = len(self._terms.rows)
        if known < len(self._rows):
            more = (self._rows[known:], self._columns[known:], self._weights[known:])
            self._terms = Terms(
                *(
                    np.concatenate([each, np.array(new, dtype=np.int64)])
                    for each, new in zip(self._terms, more, strict=True)
                )
            )
        return self._terms

    def rows(self, useful: NDArray[np.bool_]) -> Iterator[tuple[int, list[int], list[int]]]:
        """Yield each row that has *useful* columns: its index, these, and their weights."""
        rows, columns, weights = self.terms()
        kept = np.flatnonzero(useful[columns])
        kept = kept[np.argsort(rows[kept], kind="stable")]
        found, first = np.unique(rows[kept], return_index=True)
        ends = itertools.pairwise([*first.tolist(), len(kept)])
        columns_kept, weights_kept = columns[kept].tolist(), weights[kept].tolist()
        for row, (start, end) in zip(found.tolist(), ends, strict=True):
            yield row, columns_kept[start:end], weights_kept[start:end]

    def needs_more_than(self, useful: NDArray[np.bool_]) -> bool:
        """Return whether a row cannot hold because none of its columns is *useful*."""
        rows, columns, _ = self.terms()
        empty = np.ones(len(self.least), dtype=np.bool_)
        empty[rows[useful[columns]]] = False
        return any(
            (self.least[row] or 0) > 0 or (self.most[row] or 0) < 0
            for row in np.flatnonzero(empty).tolist()
        )

    def paid(self, prices: NDArray[np.int64]) -> int:
        """Return what the rows' limits cost at prices, of which none lacks the limit it is for."""
        total = 0
        some = np.flatnonzero(prices)
        for row, price in zip(some.tolist(), prices[some].tolist(), strict=True):
            limit = self.most[row] if price > 0 else self.least[row]
            assert limit is not None
            total += price * limit
        return total

    def _row(
        self,
        columns: Sequence[int],
        weights: Sequence[int],
        least: int | None,
        most: int | None,
    ) -> int:
        row = len(self.least)
        self.least.append(least)
        self.most.append(most)
        self._rows.extend(itertools.repeat(row, len(columns)))
        self._columns.extend(columns)
        self._weights.extend(weights)
        return row
