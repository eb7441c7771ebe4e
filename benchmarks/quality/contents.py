"""The report's sections, from the stored results; all renderings share them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.quality import plots
from benchmarks.quality.against import against_mfi, bound_of
from benchmarks.quality.cells import LOADS
from benchmarks.quality.claims import Claim, claims, main_results
from benchmarks.quality.mapping import as_published
from benchmarks.quality.public_trace import public_trace
from benchmarks.quality.queued import queued
from benchmarks.quality.scrutiny import elsewhere, not_winning, reproduction
from benchmarks.quality.store import Result, apart
from benchmarks.quality.tuning import tuning
from benchmarks.reporting.page import Section, Table
from extender.simulation.paired import estimate

Cells = Mapping[tuple[str, float], Result]


def sections(results: Mapping[str, Result], folder: Path) -> Iterator[Section]:
    """Yield the report's sections; plots are drawn into *folder*."""
    generated, traces = apart(results)
    cells = main_results(generated)
    yield _introduction(cells)
    yield Section(
        title="What was to be shown",
        tables=(
            Table(
                ("holds", "claim", "evidence"),
                tuple(
                    ("yes" if c.holds else "NO", c.sentence, c.evidence) for c in judged(results)
                ),
            ),
        ),
    )
    yield against_mfi(cells, folder)
    yield _acceptance(cells)
    yield _profiles(cells, folder)
    yield _fragmentation(cells)
    yield not_winning(generated, traces, cells)
    yield from elsewhere(generated, folder)
    yield from queued(generated)
    yield from public_trace(traces, folder)
    yield reproduction(generated)
    yield tuning(generated)
    yield _policies()


def judged(results: Mapping[str, Result]) -> list[Claim]:
    """Return what must hold, and whether it does."""
    generated, traces = apart(results)
    return [*claims(generated), *as_published(traces.values())]


def _introduction(cells: Cells) -> Section:
    result = next(iter(cells.values()))
    s = result.scenario
    seeds = f"{result.seeds[0]} to {result.seeds[-1]}"
    return Section(
        title="What this is about",
        text=(
            "An NVIDIA GPU with MIG can be cut into hardware-isolated instances. Not anywhere: an"
            " H100 has eight memory slices, and each instance size (profile) may begin only at"
            " certain slices. Where small instances are put decides whether a big one still fits"
            " later. A policy chooses, for each request, the GPU and the slices. A request that"
            " fits nowhere is rejected, even where enough slices are free in total: that is"
            " fragmentation.",
            f"Here policies are tried on simulated requests: {s.gpus} {s.model} GPUs, Poisson"
            " arrivals, exponential lifetimes, no queue, no migration, unless a section says"
            " otherwise. The load is the demand as a"
            f" share of all slices. Each policy sees the very same requests: {len(result.seeds)}"
            f" seeds ({seeds}), {s.warmup:,} requests to fill the cluster and then {s.arrivals:,}"
            " that are counted, for each seed. Decisions are made by the code that decides in a"
            " cluster. A mix says how often each profile is asked for: uniform, skew-small,"
            " skew-big and bimodal are those of Zambianco et al. (arXiv 2511.18906), the others"
            " were made up beforehand.",
            "Acceptance is near 100 %, so look at rejections. Counting requests alone would reward"
            " a policy for starving the biggest profile; so slices and single profiles are shown"
            " too. Intervals are 95 % t intervals of differences on the same seeds.",
        ),
    )


def _acceptance(cells: Cells) -> Section:
    return Section(
        title="Every policy",
        text=("Accepted requests, and in brackets slices, in per cent.",),
        tables=tuple(_acceptance_table(cells, load) for load in LOADS),
    )


def _acceptance_table(cells: Cells, load: float) -> Table:
    columns = {mix: result for (mix, at), result in cells.items() if at == load}
    policies = dict.fromkeys(name for result in columns.values() for name in result.series)
    rows = []
    for policy in policies:
        row = [policy]
        for result in columns.values():
            if policy not in result.series:
                row.append("")
                continue
            measures = result.measures(policy)
            requests = estimate([100 * each.requests for each in measures]).mean
            slices = estimate([100 * each.slices for each in measures]).mean
            row.append(f"{requests:.2f} ({slices:.1f})")
        rows.append(tuple(row))
    rows.append(("bound (LP)", *(bound_of(result) for result in columns.values())))
    return Table((f"load {load:g}", *columns), tuple(rows))


SHOWN = ("default", "learned", "mfi", "best-fit", "first-fit", "repack")


def _profiles(cells: Cells, folder: Path) -> Section:
    tables = []
    for load in LOADS:
        rows = []
        profiles: tuple[str, ...] = ()
        for (mix, at), result in cells.items():
            if at != load:
                continue
            profiles = tuple(result.asked)
            for policy in (name for name in SHOWN if name in result.series):
                accepted = result.series[policy].accepted
                rows.append(
                    (mix, policy, *(_share(accepted[p], result.asked[p]) for p in profiles))
                )
        tables.append(Table((f"load {load:g}", "policy", *profiles), tuple(rows)))
    drawn = []
    for load in LOADS:
        name = f"plots/largest-{load:g}.svg"
        shown = [policy for policy in SHOWN if all(policy in r.series for r in cells.values())]
        plots.largest_profile(cells, load, shown, folder / name)
        drawn.append(name)
    return Section(
        title="Who is rejected: every profile",
        text=("Accepted requests for each profile, in per cent, all seeds together.",),
        tables=tuple(tables),
        plots=tuple(drawn),
    )


def _fragmentation(cells: Cells) -> Section:
    rows = []
    for (mix, load), result in cells.items():
        for policy in (name for name in SHOWN if name in result.series):
            each = result.series[policy]
            if not each.active:
                continue
            refused = sum(each.capacity) + sum(each.fragmentation)
            rows.append(
                (
                    mix,
                    f"{load:g}",
                    policy,
                    f"{refused:.0f}",
                    f"{100 * sum(each.fragmentation) / refused:.0f} %" if refused else "",
                    f"{_mean(each.active):.1f}",
                    f"{100 * _mean(each.used):.1f} %",
                    f"{_mean(each.unusable):.2f}",
                    f"{_mean(each.blocked):.2f}",
                )
            )
    return Section(
        title="Why, and how full GPUs were",
        text=(
            "A rejection is due to fragmentation if the request and everything running could be"
            " held by moving instances about (an exact test); nearly all are, as long as the load"
            " is not above what the cluster holds. The other columns are means over time: GPUs in"
            " use, slices in use, free slices of used GPUs that a profile cannot use (per GPU,"
            " summed over profiles), and MFI's own measure per GPU.",
        ),
        tables=(
            Table(
                (
                    "mix",
                    "load",
                    "policy",
                    "rejected",
                    "fragmentation",
                    "GPUs in use",
                    "slices in use",
                    "unusable",
                    "MFI's measure",
                ),
                tuple(rows),
            ),
        ),
    )


def _policies() -> Section:
    rows = (
        (
            "default",
            "fewest slices that some profile can no longer use; ties to the fuller GPU, then to the"
            " one with more instances, as it will be longer in becoming empty",
        ),
        ("learned", "a trained value of each GPU's layout, where a simulation says it is better"),
        ("demand-weighted", "least loss of legal placements, weighed by demanded slices"),
        ("mfi, mfi-v2", "least growth of blocked windows (two readings of the paper)"),
        ("fgd", "as default, profiles weighed by how often they are asked for"),
        ("capability", "most legal placements left (an absolute count: it spreads)"),
        ("capability-loss, expected-…", "fewest legal placements lost (weighed by demand)"),
        ("best-fit, worst-fit", "fullest or emptiest GPU, then the profile's best slice index"),
        ("first-fit, round-robin, random", "the first place; the first after the last; any"),
        (
            "hami-…",
            "HAMi 2.10's order of GPUs and slot rule; -bigger: another profile with enough memory"
            " if need be (it counts as what was asked for); 2855: the rule of that pull request",
        ),
        ("instaslice", "the emptiest node, its first GPU and start with room"),
        ("kubernetes-default", "kube-scheduler's spreading, the driver's own placement"),
        (
            "repack",
            "reference: everything may be moved, at once and for nothing; greedy, so no"
            " upper bound",
        ),
    )
    return Section(title="The policies", tables=(Table(("name", "chooses"), rows),))


def _share(accepted: Sequence[int], asked: Sequence[int]) -> str:
    return f"{100 * sum(accepted) / sum(asked):.2f}" if sum(asked) else ""


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
