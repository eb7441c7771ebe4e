"""How fast a demand grows, and when it is more than a fleet holds: with what chance may have added.

By a bootstrap of whole days: the future is made of days like those seen, first drawn anew among
themselves, for another month would have had others (how fast it grows is known no better than
that), and then one after the other. All profiles of a day stay together. What a day of the week
has to itself is not told from chance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from extender.simulation.chance import Chance
from extender.simulation.history import History

FEWEST_PERIODS = 7
"""Whole periods between two looks: a week, by the day; fewer say nothing of how a demand grows."""

FEWEST_REQUESTS = 30.0
"""Recent requests below which nothing is claimed of what is asked for, or of how it grows."""

HORIZON = 1_095
"""Periods looked ahead: three years, by the day. Nobody's demand goes on as it is for longer."""

PATHS = 400
"""Futures drawn: their 2.5th percentile is then known to within a percentile or so."""

FIRST_SEED = 41_000

Holds = Callable[[Sequence[int]], bool]
"""Tells whether a fleet holds so many instances of each kind."""


class Interval(msgspec.Struct, frozen=True):
    """A middle value, and between which 95 % lie; None: beyond what is looked at."""

    median: float | None
    low: float | None
    high: float | None


class RunOut(msgspec.Struct, frozen=True):
    """After how many periods the demand is more than the fleet holds.

    ``within_horizon``: in which share of the futures that happens within :data:`HORIZON`.
    """

    periods: Interval
    within_horizon: float


class TooLittle(msgspec.Struct, frozen=True):
    """Nothing is claimed; ``why`` says what is missing."""

    why: str


def increments(history: History, names: Sequence[str]) -> NDArray[np.float64]:
    """Return by how much each period's demand was more than the one's before, as (periods, names).

    The last period is not over, and left out. Over a gap each period has its equal part.
    """
    periods = history.periods[:-1]
    nothing = (0,) * len(history.periods)
    rows = [history.wanted.get(name, nothing)[: len(periods)] for name in names]
    levels = np.array(rows, np.float64).reshape(len(names), len(periods)).T
    if len(periods) < 2:
        return np.zeros((0, len(names)))
    apart = np.diff(np.array(periods))
    each = np.diff(levels, axis=0) / apart[:, None]
    return np.repeat(each, apart, axis=0)


def growth(steps: NDArray[np.float64], sizes: Sequence[int], seed: int = FIRST_SEED) -> Interval:
    """Return by how many memory slices the demand grows in a period; *steps* are increments.

    ``sizes`` are the slices of each column.
    """
    slices = steps @ np.array(sizes, np.float64)
    chance = Chance(seed)
    means = [slices[_drawn(chance, len(slices), len(slices))].mean() for _ in range(PATHS)]
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float(slices.mean()), float(low), float(high))


def run_out(
    start: Sequence[int], steps: NDArray[np.float64], holds: Holds, seed: int = FIRST_SEED
) -> RunOut:
    """Return when a demand that is *start* now is more than what the fleet *holds*."""
    if not holds(start):
        return RunOut(Interval(0.0, 0.0, 0.0), 1.0)
    chance = Chance(seed)
    ends = []
    for _ in range(PATHS):
        seen = steps[_drawn(chance, len(steps), len(steps))]
        future = seen[_drawn(chance, len(seen), HORIZON)]
        ends.append(_first_beyond(np.array(start, np.float64) + future.cumsum(axis=0), holds))
    # Who does not run out is later than all who do.
    found = np.quantile(np.array(ends), (0.5, 0.025, 0.975), method="inverted_cdf")
    return RunOut(
        Interval(*(float(each) if each <= HORIZON else None for each in found)),
        sum(end <= HORIZON for end in ends) / PATHS,
    )


def _first_beyond(path: NDArray[np.float64], holds: Holds) -> int:
    """Return after how many periods a path is first beyond, one more than the horizon if never.

    Until the most of each kind so far does not fit together, nothing does not: that is found by
    halving, and only from there it is looked period by period.
    """
    counts = np.maximum(0, np.ceil(path - 1e-9)).astype(np.int64)
    peaks = np.maximum.accumulate(counts, axis=0)
    low, high = -1, len(counts)
    while high - low > 1:
        middle = (low + high) // 2
        if holds(peaks[middle].tolist()):
            low = middle
        else:
            high = middle
    for at in range(high, len(counts)):
        if not holds(counts[at].tolist()):
            return at + 1
    return HORIZON + 1


def _drawn(chance: Chance, among: int, number: int) -> list[int]:
    return [int(chance.uniform() * among) for _ in range(number)]
