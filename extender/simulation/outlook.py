"""When a demand that goes on growing as it did is more than a fleet holds, even packed at best."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from extender.simulation.at_best import AtBest, Counts
from extender.simulation.baseline import Baseline
from extender.simulation.fleet import Kind
from extender.simulation.growth import (
    FEWEST_PERIODS,
    FEWEST_REQUESTS,
    Interval,
    RunOut,
    TooLittle,
    growth,
    increments,
    run_out,
)


class Dates(msgspec.Struct, frozen=True):
    """Days (UTC), as ISO 8601: a middle one, and between which 95 % lie; None: too far away."""

    median: str | None
    low: str | None
    high: str | None


class Growing(msgspec.Struct, frozen=True):
    """How the demand grows, in memory slices per period of so many ``seconds``.

    ``periods``: how many were seen. ``runs_out`` is when it is more than the fleet holds, by the
    calendar, and ``run_out`` the same in periods.
    """

    seconds: int
    periods: int
    slices: Interval
    runs_out: Dates
    run_out: RunOut


def outlook(
    baseline: Baseline, kinds: Sequence[Kind], wanted: Counts, parked: Counts, at_best: AtBest
) -> Growing | TooLittle:
    """Return how the demand goes on, or why nothing is claimed of that.

    ``wanted`` is what it is now, by kind; what is ``parked`` stays where it is.
    """
    history = baseline.requests.history
    first = {kind.name: at for at, kind in reversed([*enumerate(kinds)])}
    places = sorted(
        at
        for at in first.values()
        if any(p and p.name == kinds[at].name for p in kinds[at].profiles)
    )
    steps = increments(history, [kinds[at].name for at in places])
    seen = sum(baseline.requests.lately.values())
    if len(steps) < FEWEST_PERIODS:
        return TooLittle(
            f"{len(steps)} whole periods of {history.seconds / 3600:g} h were seen between two"
            f" counts, and {FEWEST_PERIODS} are needed to tell how the demand grows"
        )
    if seen < FEWEST_REQUESTS:
        return TooLittle(
            f"{seen:.0f} requests seen of late, and {FEWEST_REQUESTS:.0f} are needed to tell how"
            " the demand grows"
        )

    def holds(counts: Sequence[int]) -> bool:
        moving = [0] * len(kinds)
        for at, count in zip(places, counts, strict=True):
            moving[at] = max(0, count - parked[at])
        return at_best(moving)

    found = run_out([wanted[at] for at in places], steps, holds)
    return Growing(
        history.seconds,
        len(steps),
        growth(steps, [kinds[at].size for at in places]),
        Dates(*(_date(baseline, each) for each in msgspec.structs.astuple(found.periods))),
        found,
    )


def _date(baseline: Baseline, periods: float | None) -> str | None:
    if periods is None:
        return None
    ahead = timedelta(seconds=periods * baseline.requests.history.seconds)
    return (datetime.fromisoformat(baseline.at) + ahead).date().isoformat()
