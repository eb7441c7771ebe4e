"""What the results must show, checked from what is stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from benchmarks.quality.cells import LOADS, RIVALS, full
from benchmarks.quality.store import Result
from extender.simulation.mixes import NAMED
from extender.simulation.outcome import Comparison, compared
from extender.simulation.paired import estimate, holm

REFERENCE = Path(__file__).parent / "reference.json"

SIGNIFICANT = 0.05
AVOIDED_GOAL_PCT = 35.0


class PublishedTraces(msgspec.Struct, frozen=True):
    """The shares of profiles that traces map to, the largest profile first.

    By the trace's name and by rule, such as ``A`` or ``A, shared`` (pods that asked for a part of a
    GPU alone).
    """

    about: str
    shares: Mapping[str, Mapping[str, tuple[float, ...]]]


class Reference(msgspec.Struct, frozen=True):
    """Published acceptance, per cent of (requests, slices), by load, mix and policy; and traces."""

    about: str
    acceptance: Mapping[str, Mapping[str, Mapping[str, tuple[float, float]]]]
    traces: PublishedTraces


class Claim(msgspec.Struct, frozen=True):
    """A sentence about the results, whether it holds, and what it rests on."""

    sentence: str
    holds: bool
    evidence: str


class Reproduced(msgspec.Struct, frozen=True):
    """One published figure beside ours; all in per cent, ``ci95`` the half-width of ours."""

    mix: str
    load: float
    policy: str
    metric: str
    published: float
    ours: float
    ci95: float

    @property
    def within(self) -> bool:
        """Whether the published figure, known to its last digit, is in our interval."""
        rounding = 0.005 if self.metric == "requests" else 0.05
        return abs(self.published - self.ours) <= self.ci95 + rounding


def reference() -> Reference:
    """Return the published figures."""
    return msgspec.json.decode(REFERENCE.read_bytes(), type=Reference)


def main_results(results: Mapping[str, Result]) -> dict[tuple[str, float], Result]:
    """Return the comparison's results by mix and load, in the order of these."""
    found = {
        (each.scenario.mix, each.scenario.load): each
        for each in results.values()
        if each.group == "main"
    }
    order = list(NAMED)
    return {key: found[key] for key in sorted(found, key=lambda key: (order.index(key[0]), key[1]))}


def reproduced(results: Mapping[str, Result]) -> Iterator[Reproduced]:
    """Yield every published figure that we measured too."""
    known = reference().acceptance
    for (mix, load), result in main_results(results).items():
        for policy, figures in known[f"{load:g}"][mix].items():
            if policy not in result.series:
                continue
            measures = result.measures(policy)
            for metric, published in zip(("requests", "slices"), figures, strict=True):
                ours = estimate([100 * getattr(each, metric) for each in measures])
                assert ours.ci95 is not None
                yield Reproduced(mix, load, policy, metric, published, ours.mean, ours.ci95)


def claims(results: Mapping[str, Result]) -> Iterator[Claim]:
    """Yield what must hold of generated demand, and whether it does."""
    yield _complete(results)
    yield _reproduces(results)
    yield from _beats_mfi(results)
    yield _never_below(results)
    yield from _learned(results)


def _complete(results: Mapping[str, Result]) -> Claim:
    wanted = {cell.name: cell for cell in full()}
    stored = [name for name in wanted if name in results]
    lacking = {
        name: [c for c in wanted[name].contenders if c not in results[name].series]
        for name in stored
    }
    partly = [f"{name} lacks {', '.join(names)}" for name, names in lacking.items() if names]
    return Claim(
        "Everything that was to be run has been run.",
        len(stored) == len(wanted) and not partly,
        f"{len(stored)} of {len(wanted)} cells; incomplete: {'; '.join(partly) or 'none'}.",
    )


def _reproduces(results: Mapping[str, Result]) -> Claim:
    figures = list(reproduced(results))
    outside = [each for each in figures if not each.within]
    policies = sorted({each.policy for each in figures})
    furthest = max(
        (abs(e.published - e.ours) for e in figures if e.metric == "requests"), default=0
    )
    return Claim(
        "The simulator reproduces the reference tables within their intervals.",
        bool(figures) and not outside,
        f"{len(figures) - len(outside)} of {len(figures)} figures ({', '.join(policies)}); the"
        f" furthest of requests is {furthest:.3f} points off.",
    )


def _beats_mfi(results: Mapping[str, Result]) -> Iterator[Claim]:
    cells = main_results(results)
    for metric in ("requests", "slices"):
        gains = {
            key: getattr(_against(result, "default", "mfi"), f"{metric}_pp")
            for key, result in cells.items()
        }
        ahead = [key for key, gain in gains.items() if gain.mean > 0]
        certain = [key for key, gain in gains.items() if gain.above_zero]
        yield Claim(
            f"default accepts more {metric} than MFI, in every mix and at both loads.",
            len(ahead) == len(gains) == len(NAMED) * len(LOADS),
            f"{len(ahead)} of {len(gains)}; with the whole 95 % interval above 0: {len(certain)}."
            f" Gains {min(g.mean for g in gains.values()):+.3f} to"
            f" {max(g.mean for g in gains.values()):+.3f} points.",
        )


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
                difference = getattr(_against(result, policy, rival), f"{metric}_pp")
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


def _never_below(results: Mapping[str, Result]) -> Claim:
    alone = {name: each for name, each in results.items() if each.group != "models"}
    found = list(comparisons(alone, "default", RIVALS))
    below = [each for each in found if each.significant]
    negative = sum(each.mean < 0 for each in found)
    return Claim(
        "On GPUs of one model, default is nowhere significantly below MFI or best fit: other"
        " models, sizes, lifetimes and changing mixes included (95 % interval wholly below 0, Holm"
        " over the mixes).",
        bool(found) and not below,
        f"{len(found)} comparisons, {negative} with a mean below 0, significantly: "
        + (", ".join(f"{e.cell} {e.rival} {e.metric} {e.mean:+.3f}" for e in below) or "none")
        + ".",
    )


def _learned(results: Mapping[str, Result]) -> Iterator[Claim]:
    cells = {
        key: result for key, result in main_results(results).items() if "learned" in result.series
    }
    avoided = [
        _against(result, "learned", "mfi").rejections_avoided_pct or 0.0
        for (_, load), result in cells.items()
        if load == min(LOADS)
    ]
    mean = sum(avoided) / len(avoided) if avoided else 0.0
    yield Claim(
        f"learned, guarded, avoids at least {AVOIDED_GOAL_PCT:.0f} % of MFI's rejections at load"
        f" {min(LOADS)}, on average over the mixes.",
        len(avoided) == len(NAMED) and mean >= AVOIDED_GOAL_PCT,
        f"{mean:.1f} % over {len(avoided)} mixes.",
    )
    steady = {name: each for name, each in results.items() if each.group != "drift"}
    found = list(comparisons(steady, "learned", ("default",)))
    below = [each for each in found if each.significant]
    yield Claim(
        "learned is nowhere significantly below default while the mix is the one that its guard was"
        " shown (Holm).",
        bool(found) and not below,
        f"{len(found)} comparisons, significantly below: "
        + (", ".join(f"{e.cell} {e.metric} {e.mean:+.3f}" for e in below) or "none")
        + ".",
    )


def _against(result: Result, policy: str, rival: str) -> Comparison:
    measured = {name: result.measures(name) for name in (policy, rival)}
    return compared(policy, measured)[rival]
