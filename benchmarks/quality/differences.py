"""Differences between policies in many cells, and which of them chance does not explain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from benchmarks.quality.store import Result
from extender.simulation.outcome import Comparison, compared
from extender.simulation.paired import holm

SIGNIFICANT = 0.05


class Below(msgspec.Struct, frozen=True):
    """Where a policy may be below another: by so many points, so surely."""

    cell: str
    rival: str
    metric: str
    mean: float
    ci95: float
    p_holm: float

    @property
    def significant(self) -> bool:
        """Whether it is below for certain, the number of questions considered."""
        return self.mean + self.ci95 < 0 and self.p_holm < SIGNIFICANT

    @property
    def significantly_above(self) -> bool:
        """Whether it is the other way round, as certainly."""
        return self.mean - self.ci95 > 0 and self.p_holm < SIGNIFICANT


def comparisons(
    results: Mapping[str, Result], policy: str, rivals: tuple[str, ...]
) -> Iterator[Below]:
    """Yield *policy* minus each of *rivals*, for every cell and metric.

    p is adjusted over the mixes of one question: a model, a size, a law of lifetimes and a load.
    """
    asked: dict[tuple[object, ...], dict[str, float]] = {}
    found = []
    for name, result in results.items():
        for rival in rivals if not result.scenario.queueing else ():  # nothing is lost there
            if policy not in result.series or rival not in result.series:
                continue
            for metric in ("requests", "slices"):
                difference = getattr(against(result, policy, rival), f"{metric}_pp")
                question = (*_question(result), rival, metric)
                asked.setdefault(question, {})[name] = difference.p
                found.append((question, name, rival, metric, difference))
    adjusted = {question: holm(by_cell) for question, by_cell in asked.items()}
    for question, name, rival, metric, difference in found:
        p_holm = adjusted[question][name]
        yield Below(name, rival, metric, difference.mean, difference.ci95, p_holm)


def _question(result: Result) -> tuple[object, ...]:
    s = result.scenario
    return result.group, s.model, s.gpus, s.lifetime, s.load, s.trace


def against(result: Result, policy: str, rival: str) -> Comparison:
    """Return *policy* minus *rival*."""
    measured = {name: result.measures(name) for name in (policy, rival)}
    return compared(policy, measured)[rival]
