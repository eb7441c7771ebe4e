"""Plots over time as SVG, in colours that the page gives them: light, dark, and for any eyes.

The lines of a plot differ in colour and in their dashes. A plot bears no name of anybody's: the
page tells which line is whose.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import matplotlib as mpl
import msgspec
from matplotlib.figure import Figure

# Stand-ins, which the page's own colours take the place of; matplotlib writes them as they are.
_INK, _LINE = "#000101", "#000102"
_SERIES = ("#010001", "#010002", "#010003", "#010004", "#010005", "#010006")
_VARIABLES = {_INK: "var(--muted)", _LINE: "var(--line)"} | {
    colour: f"var(--series-{number})" for number, colour in enumerate(_SERIES, start=1)
}
DASHES = ((), (5, 2), (1.5, 1.5), (7, 2, 1.5, 2), (3, 1), (9, 2, 3, 2))
"""Of each line, in widths: drawn, not drawn, and so on; () for a line without gaps."""

WIDTH, WIDER = 1.6, 3.0
"""Of lines, in points. The first is drawn wider, below the others, so that none hides it."""


class Plot(msgspec.Struct, frozen=True):
    """A measure over ``days``, one line of values for each policy, as steps from day to day.

    ``days`` has one number more than each line: where the last step ends.
    """

    title: str
    unit: str
    days: tuple[float, ...]
    lines: tuple[tuple[float, ...], ...]


def drawn(plot: Plot) -> str:
    """Return a plot as an SVG element, the same whenever it is drawn from the same numbers."""
    with mpl.rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": plot.title,
            "font.family": "sans-serif",
            "text.color": _INK,
            "axes.labelcolor": _INK,
            "axes.edgecolor": _LINE,
            "xtick.color": _INK,
            "ytick.color": _INK,
            "grid.color": _LINE,
        }
    ):
        figure = Figure(figsize=(9, 2.6), layout="constrained")
        axes = figure.subplots()
        for number, values in enumerate(plot.lines):
            at = number % len(_SERIES)
            axes.stairs(
                values,
                plot.days,
                baseline=None,
                color=_SERIES[at],
                linewidth=WIDTH if number else WIDER,
                linestyle=(0, DASHES[at]) if DASHES[at] else "solid",
            )
        axes.set_ylabel(plot.unit)
        axes.set_xlabel("days since the record begins")
        axes.set_xlim(plot.days[0], plot.days[-1])
        axes.set_ylim(bottom=0.0)
        axes.grid(axis="y", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        written = io.StringIO()
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    return _coloured(written.getvalue())


def _coloured(svg: str) -> str:
    """Return the element of an SVG file, its stand-ins replaced."""
    element = re.sub(r"\A.*?(?=<svg)", "", svg, flags=re.DOTALL)
    for colour, variable in _VARIABLES.items():
        element = element.replace(colour, variable)
    return element


def sample(number: int) -> tuple[str, str]:
    """Return the colour and the dashes of a line, as SVG has them."""
    at = number % len(_SERIES)
    dashes = " ".join(f"{each * WIDTH:g}" for each in DASHES[at])
    return _VARIABLES[_SERIES[at]], dashes


def legible(lines: Sequence[object]) -> bool:
    """Tell whether each line is one that no other can be taken for."""
    return len(lines) <= len(_SERIES)
