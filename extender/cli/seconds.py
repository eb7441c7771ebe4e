"""Durations given on the command line."""

from __future__ import annotations

import math

import typer


def finite(seconds: float) -> float:
    """Return a duration as it is.

    Raises:
        typer.BadParameter: it is ``inf`` or ``nan``, which JSON cannot tell.
    """
    if not math.isfinite(seconds):
        raise typer.BadParameter(f"{seconds} is no number of seconds")
    return seconds
