"""Two replays held against each other, stretch by stretch of the same time.

What happens in one hour depends on the hour before: VMs stay. So a record is divided into
stretches, and these are made longer while the differences in neighbouring ones still resemble each
other (batch means). Then they are taken for independent, as :mod:`extender.simulation.paired` takes
seeds.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from extender.replay.played import Played
from extender.replay.tally import HOUR, counted, waited
from extender.simulation.paired import Estimate, estimate

DAY = 86_400.0

MOST, FEWEST = 28, 5
"""Stretches: with more they are too short to be independent, with fewer nothing is shown."""

USUAL = 12
"""Of a record too short for days."""

RESEMBLANCE = 0.2
"""The correlation of neighbouring stretches from which on they are joined."""


class Paired(msgspec.Struct, frozen=True):
    """Differences, with their intervals, and the stretches they are from."""

    refused: Estimate
    waited_hours: Estimate
    unusable: Estimate
    whole: Estimate
    stretches: int
    stretch_seconds: float


def paired(before: Played, after: Played) -> Paired | None:
    """Return how the replay *after* differs from the one *before*; None of a record of no time."""
    until = before.until
    if not until:
        return None
    stretches = _at_first(until)
    while True:
        edges = np.linspace(0.0, until, stretches + 1).tolist()
        refused = _refused(after, edges) - _refused(before, edges)
        waits = _waited(after, edges) - _waited(before, edges)
        resembling = max(_resemblance(refused), _resemblance(waits)) > RESEMBLANCE
        if not resembling or stretches // 2 < FEWEST:
            break
        stretches //= 2
    pairs = tuple(zip(after.meter.between(edges), before.meter.between(edges), strict=True))
    return Paired(
        _in_all(refused),
        _in_all(waits),
        estimate([ours.unusable - theirs.unusable for ours, theirs in pairs]),
        estimate([ours.whole - theirs.whole for ours, theirs in pairs]),
        stretches,
        until / stretches,
    )


def _at_first(until: float) -> int:
    days = int(until / DAY)
    return min(days, MOST) if days > FEWEST else USUAL


def _refused(played: Played, edges: Sequence[float]) -> NDArray[np.float64]:
    times = [f.asked_at for f in played.fates if f.refused and f.asked_at is not None]
    return counted(edges, times)


def _waited(played: Played, edges: Sequence[float]) -> NDArray[np.float64]:
    """Return the hours that those waited who came in each stretch."""
    came = [f for f in played.fates if f.refused and f.asked_at is not None]
    hours = [waited(fate, played.until) / HOUR for fate in came]
    return counted(edges, [f.asked_at for f in came if f.asked_at is not None], hours)


def _resemblance(differences: NDArray[np.float64]) -> float:
    """Return the correlation of each difference with the next one."""
    around = differences - differences.mean()
    spread = float(around @ around)
    return float(around[1:] @ around[:-1]) / spread if spread else 0.0


def _in_all(differences: NDArray[np.float64]) -> Estimate:
    """Return the sum of the differences, with its interval."""
    each, count = estimate(differences.tolist()), len(differences)
    width = None if each.ci95 is None else each.ci95 * count
    return Estimate(each.mean * count, width, each.p)
