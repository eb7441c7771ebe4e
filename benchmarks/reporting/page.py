"""What a report is made of, whatever it is rendered as."""

from __future__ import annotations

import msgspec

from extender.simulation.paired import Estimate


class Table(msgspec.Struct, frozen=True):
    """Rows of text under a header."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A heading, paragraphs, then tables, then plots (file names)."""

    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    plots: tuple[str, ...] = ()


def points(each: Estimate) -> str:
    """Return a difference in percentage points with its interval."""
    return f"{each.mean:+.2f} ± {each.ci95 or 0:.2f}"
