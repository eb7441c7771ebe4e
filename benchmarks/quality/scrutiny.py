"""The report's second half: where the default policy does not win, and whether others agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.quality import plots
from benchmarks.quality.cells import RIVALS
from benchmarks.quality.claims import reference, reproduced
from benchmarks.quality.differences import Below, comparisons
from benchmarks.quality.mapping import workload
from benchmarks.quality.store import Result
from benchmarks.reporting.page import Section, Table, points
from extender.simulation.outcome import compared
from extender.simulation.paired import estimate

Cells = Mapping[tuple[str, float], Result]


def not_winning(
    results: Mapping[str, Result], traces: Mapping[str, Result], cells: Cells
) -> Section:
    """Return where others are ahead: of default in all, and in single profiles.

    *results* are those of generated demand, *cells* its main comparison.
    """
    behind = [each for each in comparisons(results, "default", RIVALS) if each.mean < 0]
    two = {name for name, each in results.items() if each.group == "models"}
    alone = [each for each in behind if each.cell not in two]
    misled = [e for e in comparisons(results, "learned", ("default",)) if e.mean + e.ci95 < 0]
    return Section(
        title="Where Tangram does not win",
        text=(
            "Where another policy, or the repacking reference, accepts more than default, with the"
            " whole 95 % interval on its side (not adjusted for the number of comparisons: a list"
            " of suspicions, not of proofs). What is ahead in requests alone may owe it to"
            " rejecting whole GPUs.",
            "The second table lists the single profiles of which default accepts less than MFI.",
            f"On other models, sizes, lifetimes and changing mixes, and with two models at once,"
            f" default's mean is below a rival's in {len(behind)} comparisons; the lowest are in"
            " the third table, those of two models in the fourth. The A30 and the RTX PRO 6000"
            " halve and halve again, so their figures are the same: they count as one"
            " geometry.",
            *_two_models(results),
            *_recorded(traces),
            "learned is judged by its guard on the mix before the counting begins. Where the mix"
            " then changes, its weights may be the wrong ones until the guard is asked again: the"
            " last table lists where learned is below default, the whole 95 % interval below 0.",
        ),
        tables=(
            _ahead(cells),
            _starved(cells),
            _lowest(alone),
            _lowest([each for each in behind if each.cell in two]),
            _lowest(misled),
        ),
    )


def _two_models(results: Mapping[str, Result]) -> Iterator[str]:
    """Say how default fares where a request may be served by either of two models."""
    both = {name: each for name, each in results.items() if each.group == "models"}
    for rival in RIVALS:
        found = [e for e in comparisons(both, "default", (rival,)) if e.metric == "requests"]
        below = [each for each in found if each.significant]
        if below:
            means = sorted(each.mean for each in below)
            yield (
                f"With two models at once default is significantly below {rival} in {len(below)} of"
                f" {len(found)} cells, by {-means[-1]:.1f} to {-means[0]:.1f} points of requests."
                " default looks at one GPU's layout, which does not tell which model is scarcer;"
                " whoever fills the GPU with the fewest free slices, as best-fit does, leaves the"
                " larger GPUs to those who need them. It concerns requests that two models serve"
                " under one name, as MIG profiles may be; vGPU types are each one board's."
            )


def _recorded(traces: Mapping[str, Result]) -> Iterator[str]:
    """Say where default is significantly below a rival on recorded demand."""
    drawn = {name: each for name, each in traces.items() if each.scenario.resampled}
    found = list(comparisons(drawn, "default", RIVALS))
    below = [each for each in found if each.significant]
    if not found:
        return
    where: dict[tuple[str, str], list[str]] = {}
    for each in below:
        scenario = drawn[each.cell].scenario
        cell = f"{', '.join(workload(drawn[each.cell]))} at load {scenario.load:g}"
        amount = f"{-each.mean:.2f} ± {each.ci95:.2f} points of {each.metric} (p {each.p_holm:.2g})"
        where.setdefault((cell, each.rival), []).append(amount)
    listed = "; ".join(
        f"{cell}, {rival} is ahead by {' and '.join(amounts)}"
        for (cell, rival), amounts in where.items()
    )
    yield (
        "Of demand drawn from the public trace, default is significantly below a rival (Holm) in"
        f" {len(below)} of {len(found)} comparisons"
        + (f": on {listed}." if listed else ".")
        + " The section on the trace has them all."
    )


def _ahead(cells: Cells) -> Table:
    """Return who accepts more than default, and where."""
    rows = []
    for (mix, load), result in cells.items():
        others = [n for n in result.series if n not in ("default", "learned")]
        measured = {name: result.measures(name) for name in ("default", *others)}
        for name, found in compared("default", measured).items():
            for metric, gain in (("requests", found.requests_pp), ("slices", found.slices_pp)):
                if gain.below_zero:
                    rows.append((mix, f"{load:g}", name, metric, points(gain)))
    return Table(("mix", "load", "ahead of default", "in", "default's difference"), tuple(rows))


def _starved(cells: Cells) -> Table:
    """Return the single profiles of which default accepts less than MFI."""
    rows = []
    for (mix, load), result in cells.items():
        ours, theirs = (result.series[name].accepted for name in ("default", "mfi"))
        for profile, asked in result.asked.items():
            pairs = zip(ours[profile], theirs[profile], asked, strict=True)
            gain = estimate([100 * (a - b) / of if of else 0.0 for a, b, of in pairs])
            if gain.below_zero:
                rows.append((mix, f"{load:g}", profile, points(gain)))
    return Table(("mix", "load", "profile", "default minus MFI"), tuple(rows))


def _lowest(behind: Sequence[Below]) -> Table:
    lowest = sorted(behind, key=lambda each: each.mean)[:15]
    return Table(
        ("cell", "rival", "in", "difference", "p (Holm)"),
        tuple(
            (
                each.cell,
                each.rival,
                each.metric,
                f"{each.mean:+.3f} ± {each.ci95:.3f}",
                f"{each.p_holm:.2g}",
            )
            for each in lowest
        ),
    )


GROUPS = {
    "model": "Other GPU models",
    "size": "Other cluster sizes",
    "lifetime": "Other lifetimes",
    "drift": "A mix that changes half way",
    "models": "Two GPU models at once",
}


def elsewhere(results: Mapping[str, Result], folder: Path) -> Iterator[Section]:
    """Yield how default does on other models, sizes, lifetimes and changing mixes."""
    for group, title in GROUPS.items():
        ours = {name: each for name, each in results.items() if each.group == group}
        if not ours:
            continue
        rows = []
        for name, result in ours.items():
            measured = {policy: result.measures(policy) for policy in result.series}
            found = compared("default", measured)
            row = [name.removeprefix(f"{group}-")]
            for rival in RIVALS:
                row += [points(found[rival].requests_pp), points(found[rival].slices_pp)]
            row.append(points(found["learned"].requests_pp) if "learned" in found else "")
            rows.append(tuple(row))
        name = f"plots/{group}.svg"
        requests = [e for e in comparisons(ours, "default", RIVALS) if e.metric == "requests"]
        plots.differences(requests, f"default minus {' and '.join(RIVALS)}", folder / name)
        yield Section(
            title=title,
            text=(
                "default minus the rival, percentage points with 95 % intervals. A cell is named"
                " by model, GPUs, mix, load and law of lifetimes.",
                *_size(ours),
            ),
            tables=(
                Table(
                    (
                        "cell",
                        *(f"{rival}: {m}" for rival in RIVALS for m in ("requests", "slices")),
                        "learned: requests",
                    ),
                    tuple(rows),
                ),
            ),
            plots=(name,),
        )


def _size(results: Mapping[str, Result]) -> Iterator[str]:
    """Say how large a group was, where it was smaller than the main comparison."""
    (result, *_) = results.values()
    s = result.scenario
    if s.model.count("="):
        yield (
            f"{s.model.replace('=', ' x ').replace(',', ' and ')}, in nodes of one model each:"
            f" {len(result.seeds)} seeds, {s.arrivals:,} counted requests. A request for the whole"
            " GPU, or for a part that both models have, may be served by either; slices count as"
            " those of the first."
        )


def reproduction(results: Mapping[str, Result]) -> Section:
    """Return how near the published figures ours are."""
    worst: dict[str, tuple[int, int, float]] = {}
    for each in reproduced(results):
        count, within, furthest = worst.get(each.policy, (0, 0, 0.0))
        off = abs(each.published - each.ours) if each.metric == "requests" else 0.0
        worst[each.policy] = (count + 1, within + each.within, max(furthest, off))
    return Section(
        title="Reproduction of the reference",
        text=(reference().about,),
        tables=(
            Table(
                ("policy", "figures", "within our interval", "furthest off, points of requests"),
                tuple(
                    (policy, f"{count}", f"{within}", f"{furthest:.3f}")
                    for policy, (count, within, furthest) in worst.items()
                ),
            ),
        ),
    )
