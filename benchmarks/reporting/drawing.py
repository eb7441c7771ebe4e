"""Plots as SVG files that are the same whenever they are drawn from the same numbers."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

mpl.rcParams["svg.hashsalt"] = "quality"
mpl.rcParams["svg.fonttype"] = "none"


def save(figure: Figure, path: Path) -> None:
    """Write a figure, and the folder it is to be in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None})
