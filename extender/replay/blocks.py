"""Two replays held against each other, stretch by stretch of the same record.

What happens in one hour depends on the hour before: VMs stay. So a record is divided into stretches
with as many arrivals each, and these are made longer while the differences in neighbouring ones
still resemble each other (batch means), for each measure by itself: how full GPUs are changes more
slowly than who is refused. Then they are taken for independent, as
:mod:`extender.simulation.paired` takes seeds. Where they still resemble each other when they cannot
be made longer, are too few, or are all alike, there is a difference, but neither interval nor p.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

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

ALIKE = 1e-9
"""Differences that vary by less of their mean are the same but for rounding."""


class Paired(msgspec.Struct, frozen=True):
    """Differences, with their intervals, and how many stretches they are from at the least.

    Of a record of no time these are 0; then only the refused are counted.
    """

    refused: Estimate
    waited_hours: Estimate
    unusable: Estimate
    whole: Estimate
    stretches: int


_Differences = Callable[[Sequence[float]], NDArray[np.float64]]
"""What a measure differs by in each stretch between edges."""


def paired(before: Played, after: Played) -> Paired:
    """Return how the replay *after* differs from the one *before*."""
    if not before.until:
        more = sum(bool(f.refused) for f in after.fates) - sum(
            bool(f.refused) for f in before.fates
        )
        return Paired(Estimate(float(more)), Estimate(0.0), Estimate(0.0), Estimate(0.0), 0)

    def level(of: str) -> tuple[Estimate, int]:
        def differences(edges: Sequence[float]) -> NDArray[np.float64]:
            pairs = zip(after.meter.between(edges), before.meter.between(edges), strict=True)
            return np.array([_of(ours, of) - _of(theirs, of) for ours, theirs in pairs])

        edges = _independent(before, differences)
        lasts = np.diff(edges.at) / before.until
        found = in_all(differences(edges.at) * lasts, independent=edges.independent)
        return found, edges.stretches

    def count(of: Callable[[Played, Sequence[float]], NDArray[np.float64]]) -> tuple[Estimate, int]:
        def differences(edges: Sequence[float]) -> NDArray[np.float64]:
            return of(after, edges) - of(before, edges)

        edges = _independent(before, differences)
        found = in_all(differences(edges.at), independent=edges.independent)
        return found, edges.stretches

    refused, waits = count(_refused), count(_waited)
    unusable, whole = level("unusable"), level("whole")
    fewest = min(number for _, number in (refused, waits, unusable, whole))
    return Paired(refused[0], waits[0], unusable[0], whole[0], fewest)


class _Edges(msgspec.Struct, frozen=True):
    """Where stretches begin and end, and whether they are apart enough to be held independent."""

    at: list[float]
    independent: bool

    @property
    def stretches(self) -> int:
        return len(self.at) - 1


def _independent(played: Played, differences: _Differences) -> _Edges:
    """Return as many stretches as there are that do not resemble each other, or else the fewest."""
    count = max(FEWEST, min(MOST, len(played.fates) // ARRIVALS))
    while True:
        edges = _edges(played, count)
        resembling = resemblance(differences(edges)) > RESEMBLANCE
        if not resembling or count // 2 < FEWEST:
            return _Edges(edges, not resembling and len(edges) > FEWEST)
        count //= 2


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


def resemblance(differences: NDArray[np.float64]) -> float:
    """Return the correlation of each difference with the next one."""
    around = differences - differences.mean()
    spread = float(around @ around)
    return float(around[1:] @ around[:-1]) / spread if spread else 0.0


def in_all(differences: NDArray[np.float64], *, independent: bool) -> Estimate:
    """Return the sum of the differences, with its interval where they can have one.

    Differences that are all alike seem to have no error; so few do not show that there is none.
    """
    mean, count = float(differences.mean()), len(differences)
    alike = float(np.ptp(differences)) <= ALIKE * abs(mean)
    if not independent or (alike and mean):
        return Estimate(mean * count)
    each = estimate(differences.tolist())
    width = None if each.ci95 is None else each.ci95 * count
    return Estimate(mean * count, width, each.p)
