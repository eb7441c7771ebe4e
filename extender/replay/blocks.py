"""Two replays held against each other, stretch by stretch of the same record.

What happens in one hour depends on the hour before: VMs stay. So a record is divided into stretches
with as many arrivals each, and these are made longer while the differences in neighbouring ones
still resemble each other (batch means). Then they are taken for independent, as
:mod:`extender.simulation.paired` takes seeds.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from extender.replay.meter import Averages
from extender.replay.played import Played
from extender.replay.tally import HOUR, counted, waited
from extender.simulation.paired import Estimate, estimate

MOST, FEWEST = 28, 5
"""Stretches: with more they are too short to be independent, with fewer nothing is shown."""

ARRIVALS = 10
"""In a stretch at least, where that leaves enough of them."""

RESEMBLANCE = 0.2
"""The correlation of neighbouring stretches from which on they are joined."""


class Paired(msgspec.Struct, frozen=True):
    """Differences, with their intervals, and how many stretches they are from."""

    refused: Estimate
    waited_hours: Estimate
    unusable: Estimate
    whole: Estimate
    stretches: int


def paired(before: Played, after: Played) -> Paired | None:
    """Return how the replay *after* differs from the one *before*; None of a record of no time."""
    if not before.until:
        return None
    count = max(FEWEST, min(MOST, len(before.fates) // ARRIVALS))
    while True:
        edges = _edges(before, count)
        refused = _refused(after, edges) - _refused(before, edges)
        waits = _waited(after, edges) - _waited(before, edges)
        resembling = max(_resemblance(refused), _resemblance(waits)) > RESEMBLANCE
        if not resembling or count // 2 < FEWEST:
            break
        count //= 2
    theirs, ours = before.meter.between(edges), after.meter.between(edges)
    lasts = np.diff(edges) / before.until

    def over_time(of: str) -> Estimate:
        pairs = zip(ours, theirs, strict=True)
        differences = np.array([_of(our, of) - _of(their, of) for our, their in pairs])
        return _in_all(differences * lasts)

    return Paired(
        _in_all(refused),
        _in_all(waits),
        over_time("unusable"),
        over_time("whole"),
        len(edges) - 1,
    )


def _of(averages: Averages, measure: str) -> float:
    value: float = getattr(averages, measure)
    return value


def _edges(played: Played, count: int) -> list[float]:
    """Return where stretches begin and end; fewer than *count* where many come at one moment."""
    came = np.array([fate.asked_at for fate in played.fates if fate.asked_at is not None])
    inner = np.quantile(came, np.linspace(0.0, 1.0, count + 1)[1:-1]) if len(came) else []
    return [float(each) for each in np.unique([0.0, *inner, played.until])]


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
