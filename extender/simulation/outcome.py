"""What a comparison came to, over all seeds: as it is printed and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from extender.simulation.bound import Bound
from extender.simulation.lineup import Lineup
from extender.simulation.measures import Averages, Measures, Tally, Waiting
from extender.simulation.paired import Estimate, difference, estimate, holm
from extender.simulation.scenario import Scenario

_Means = TypeVar("_Means", Averages, Waiting)


class ProfileOutcome(msgspec.Struct, frozen=True):
    """Requests for one profile, over all seeds."""

    asked: int
    accepted: int
    acceptance: float | None


class Rejections(msgspec.Struct, frozen=True):
    """Refused requests over all seeds, by cause; the causes of a reference are unknown."""

    total: int
    capacity: float | None
    fragmentation: float | None


class DecisionTime(msgspec.Struct, frozen=True):
    """How long one look-up over all GPUs took, in microseconds: the median over seeds."""

    p50: float
    p99: float


class PolicyOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """One contender. ``requests`` and ``slices`` are accepted shares, their means over seeds.

    ``decides``: the policy that really decided, where that can be another. ``guard``: what learned
    weights gained beyond default on the guard's demands, in percentage points.
    """

    requests: Estimate
    slices: Estimate
    profiles: Mapping[str, ProfileOutcome]
    rejections: Rejections
    averages: Averages | None
    over_time: tuple[Averages, ...]
    waiting: Waiting | None
    decision_us: DecisionTime | None
    decides: str | None
    guard: Estimate | None


class Comparison(msgspec.Struct, frozen=True):
    """The policy minus another on the same seeds, in percentage points.

    ``rejections_avoided_pct``: the share of the other's rejections; None if it had none.
    ``p_holm``: the p-value of ``requests_pp``, adjusted for the number of comparisons.
    """

    requests_pp: Estimate
    slices_pp: Estimate
    rejections_avoided_pct: float | None
    p_holm: float | None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """All of it; ``bound`` is what no policy without migration can exceed on ever more GPUs."""

    scenario: Scenario
    seeds: tuple[int, ...]
    policy: str
    policies: Mapping[str, PolicyOutcome]
    compare: Mapping[str, Comparison]
    bound: Bound | None
    seconds: float


def outcome(
    scenario: Scenario,
    seeds: Sequence[int],
    policy: str,
    lineup: Lineup,
    measured: Mapping[str, Sequence[Measures]],
    *,
    bound: Bound | None,
    seconds: float,
) -> Outcome:
    """Sum up the measures of each contender, one for each seed."""
    return Outcome(
        scenario=scenario,
        seeds=tuple(seeds),
        policy=policy,
        policies={name: _policy(name, lineup, each) for name, each in measured.items()},
        compare=compared(policy, measured),
        bound=bound,
        seconds=round(seconds, 3),
    )


def compared(policy: str, measured: Mapping[str, Sequence[Measures]]) -> dict[str, Comparison]:
    """Compare *policy* with all others, seed by seed."""
    ours = measured[policy]
    others = {name: theirs for name, theirs in measured.items() if name != policy}
    requests = {name: _points(ours, theirs, "requests") for name, theirs in others.items()}
    adjusted = holm({name: each.p for name, each in requests.items() if each.p is not None})
    found = {}
    for name, theirs in others.items():
        rejected = sum(each.rejections for each in theirs)
        avoided = rejected - sum(each.rejections for each in ours)
        found[name] = Comparison(
            requests[name],
            _points(ours, theirs, "slices"),
            100 * avoided / rejected if rejected else None,
            adjusted.get(name),
        )
    return found


def _points(ours: Sequence[Measures], theirs: Sequence[Measures], of: str) -> Estimate:
    return difference(
        [100 * getattr(each, of) for each in ours], [100 * getattr(each, of) for each in theirs]
    )


def _policy(name: str, lineup: Lineup, measured: Sequence[Measures]) -> PolicyOutcome:
    causes = [each for each in measured if each.capacity is not None]
    averages = [each.averages for each in measured if each.averages is not None]
    periods = zip(*(each.over_time for each in measured), strict=True)
    waits = [each.waiting for each in measured if each.waiting is not None]
    times = [each.decision_us for each in measured if each.decision_us is not None]
    return PolicyOutcome(
        requests=estimate([each.requests for each in measured]),
        slices=estimate([each.slices for each in measured]),
        profiles=_profiles([each.kinds for each in measured]),
        rejections=Rejections(
            sum(each.rejections for each in measured),
            sum(each.capacity or 0.0 for each in causes) if causes else None,
            sum(each.fragmentation or 0.0 for each in causes) if causes else None,
        ),
        averages=_mean(averages) if averages else None,
        over_time=tuple(_mean(period) for period in periods),
        waiting=_mean(waits) if waits else None,
        decision_us=DecisionTime(*(statistics.median(part) for part in zip(*times, strict=True)))
        if times
        else None,
        decides=lineup.deciding.get(name),
        guard=lineup.gains.get(name),
    )


def _profiles(tallies: Sequence[Mapping[str, Tally]]) -> dict[str, ProfileOutcome]:
    found = {}
    for name in tallies[0]:
        asked = sum(each[name].asked for each in tallies)
        accepted = sum(each[name].accepted for each in tallies)
        found[name] = ProfileOutcome(asked, accepted, accepted / asked if asked else None)
    return found


def _mean(values: Sequence[_Means]) -> _Means:
    """Return the mean, field by field."""
    columns = zip(*map(msgspec.structs.astuple, values), strict=True)
    return type(values[0])(*map(statistics.fmean, columns))
