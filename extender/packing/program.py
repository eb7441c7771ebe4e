"""An integer linear program, as plain rows: no solver's types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Row:
    """``least <= weights . columns <= most``; None is no limit. Columns may join it later."""

    columns: list[int]
    weights: list[int]
    least: int | None = None
    most: int | None = None


@dataclass(frozen=True)
class Level:
    """A sum to be made as large as can be; ``most`` is what it certainly cannot exceed."""

    columns: list[int]
    weights: list[int]
    most: int | None = None

    def sum(self, values: Sequence[int]) -> int:
        """Return the sum for the values of all columns; those that joined since then are 0."""
        pairs = zip(self.columns, self.weights, strict=True)
        return sum(weight * values[column] for column, weight in pairs if column < len(values))


@dataclass
class Program:
    """Columns are integers from 0 to ``upper``; all rows hold; levels in order of importance."""

    upper: list[int] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    levels: list[Level] = field(default_factory=list)

    def column(self, upper: int) -> int:
        """Add a column; return its index."""
        self.upper.append(upper)
        return len(self.upper) - 1

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

    def join(self, column: int, row: int, weight: int) -> None:
        """Let a column count in a row in which it does not yet."""
        self.rows[row].columns.append(column)
        self.rows[row].weights.append(weight)

    def _row(
        self,
        columns: Sequence[int],
        weights: Sequence[int],
        least: int | None,
        most: int | None,
    ) -> int:
        self.rows.append(Row(list(columns), list(weights), least, most))
        return len(self.rows) - 1
