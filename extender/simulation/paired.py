"""Differences between policies on the same requests, with what chance may have added."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

import msgspec

from extender.simulation.student import quantile, two_sided


class Estimate(msgspec.Struct, frozen=True):
    """A mean over seeds, the half-width of its 95 % t interval, and the p-value of its being 0.

    With a single seed there is no interval: ``ci95`` and ``p`` are None.
    """

    mean: float
    ci95: float | None = None
    p: float | None = None

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.ci95 is not None and self.mean - self.ci95 > 0

    @property
    def below_zero(self) -> bool:
        """Whether the whole interval is below 0."""
        return self.ci95 is not None and self.mean + self.ci95 < 0


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean of one value for each seed."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Estimate(mean)
    error = statistics.stdev(values) / math.sqrt(len(values))
    freedom = len(values) - 1
    p = two_sided(mean / error, freedom) if error else float(mean == 0)
    return Estimate(mean, quantile(0.95, freedom) * error, p)


def difference(ours: Sequence[float], theirs: Sequence[float]) -> Estimate:
    """Return the mean of the differences, seed by seed."""
    return estimate([a - b for a, b in zip(ours, theirs, strict=True)])


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values adjusted for how many questions were asked (Holm, step down)."""
    adjusted: dict[str, float] = {}
    floor = 0.0
    ordered = sorted(p_values.items(), key=lambda item: item[1])
    for asked, (key, p) in enumerate(ordered):
        floor = max(floor, min(1.0, p * (len(ordered) - asked)))
        adjusted[key] = floor
    return adjusted
