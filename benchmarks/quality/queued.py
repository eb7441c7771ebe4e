"""The report's section on requests that wait instead of being lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from benchmarks.quality.cells import RIVALS, TODAY
from benchmarks.quality.store import Result
from benchmarks.reporting.page import Section, Table
from extender.simulation.paired import difference, estimate


def queued(results: Mapping[str, Result]) -> Iterator[Section]:
    """Yield who waits how long under which policy, if that has been run."""
    found = [result for result in results.values() if result.scenario.queueing]
    if not found:
        return
    rows, shorter = [], 0
    for result in found:
        s, ours = result.scenario, result.series["default"].waiting
        for name, series in result.series.items():
            less = difference([w.mean for w in ours], [w.mean for w in series.waiting])
            shorter += name in RIVALS and less.below_zero
            rows.append(
                (
                    s.mix,
                    f"{s.load:g}",
                    name,
                    f"{100 * estimate([w.share for w in series.waiting]).mean:.1f} %",
                    f"{estimate([w.mean for w in series.waiting]).mean:.4f}",
                    "" if name == "default" else f"{less.mean:+.4f} ± {less.ci95 or 0:.4f}",
                    f"{estimate([w.p99 for w in series.waiting]).mean:.3f}",
                )
            )
    s, seeds = found[0].scenario, found[0].seeds
    yield Section(
        title="With a queue",
        text=(
            "Here nothing is lost: a request that fits nowhere waits, and whenever an instance ends"
            " those who wait are tried in the order in which they came, passing over who still does"
            f" not fit. {s.gpus} {s.model} GPUs, {len(seeds)} seeds ({seeds[0]} to {seeds[-1]}),"
            f" {s.arrivals:,} counted requests. Waiting times are in mean lifetimes of an instance,"
            " over all who were placed before the last arrival; a queue's length grows without end"
            " at a load of 1.",
            f"default's mean wait is shorter than that of {' or '.join(RIVALS)}, the whole 95 %"
            f" interval below 0, in {shorter} of {len(RIVALS) * len(found)} comparisons. {TODAY} is"
            " what happens without any of this.",
        ),
        tables=(
            Table(
                (
                    "mix",
                    "load",
                    "policy",
                    "had to wait",
                    "mean wait",
                    "default's mean wait minus this",
                    "99th percentile",
                ),
                tuple(rows),
            ),
        ),
    )
