"""An integer linear program, as plain rows: no solver's types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """``least <= weights . columns <= most``; None is no limit."""

    columns: Sequence[int]
    weights: Sequence[int]
    least: int | None = None
    most: int | None = None


@dataclass(frozen=True)
class Level:
    """A sum to be made as large as can be; ``most`` is what it certainly cannot exceed."""

    columns: Sequence[int]
    weights: Sequence[int]
    most: int | None = None

    def sum(self, values: Sequence[int]) -> int:
        """Return the sum for the values of all columns."""
        pairs = zip(self.columns, self.weights, strict=True)
        return sum(weight * values[column] for column, weight in pairs)


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

    def at_most(self, columns: Sequence[int], weights: Sequence[int], most: int) -> None:
        """Add a row that is bounded above."""
        self.rows.append(Row(columns, weights, most=most))

    def equal(self, columns: Sequence[int], weights: Sequence[int], value: int) -> None:
        """Add an equation."""
        self.rows.append(Row(columns, weights, value, value))

    def at_least(self, columns: Sequence[int], weights: Sequence[int], least: int) -> None:
        """Add a row that is bounded below."""
        self.rows.append(Row(columns, weights, least=least))
