"""The report's section on what the learned policy's weights were tuned on, and how judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from benchmarks.quality.cells import SEEDS
from benchmarks.quality.store import Result
from benchmarks.reporting.page import Section, Table, points
from extender.simulation.question import TRIALS
from extender.simulation.trained import stored
from extender.simulation.training import Effort


def tuning(results: Mapping[str, Result]) -> Section:
    """Return what each set of weights was tuned on, and what the guard found in each cell.

    *results* are those of generated demand.
    """
    effort, last = Effort(), TRIALS.first_seed + TRIALS.seeds - 1
    rows = []
    for name, file in stored():
        assert file.trained is not None  # `tangram policy train` wrote it
        trained = file.trained
        mix = ", ".join(f"{profile} {share:.0%}" for profile, share in file.demand.items() if share)
        rows.append(
            (
                name,
                mix,
                f"{trained.gpus} {trained.model}",
                f"from {trained.seed}" + ("*" if trained.seed != effort.seed else ""),
            )
        )
    return Section(
        title="What learned was trained on",
        text=(
            "The weights that come with Tangram (extender/policy/weights) are tables made"
            " beforehand, one for each mix below,"
            " by the cross-entropy method that tangram policy train uses. Each was tuned on its own"
            f" mix alone: Poisson arrivals at load {effort.load:g}, exponential lifetimes,"
            f" {effort.arrivals:,} counted requests a demand. Before they may decide, a guard holds"
            " them against default on the mix, load and number of GPUs at hand, on seeds"
            f" {TRIALS.first_seed} to {last} and {TRIALS.arrivals:,} requests each."
            f" This report's seeds are {SEEDS[0]} to {SEEDS[-1]}: neither tuning nor guard saw"
            " them. But it did see the mixes, so where this report uses the same mix, learned has"
            " been shown it, and default has not. In other mixes the nearest weights are tried, and"
            " used only if the guard finds them better there.",
            f"Where the seeds are not from {effort.seed} (*), the weights come from a second"
            " search, which began at the first one's result and drew demands of its own. They took"
            " its place because they accept more on yet other seeds, as the file of the weights"
            " records.",
            "The second table has what the guard found: the mean of request and slice acceptance"
            " beyond default, in percentage points, and who therefore decides there; default, too,"
            " where one of the two would be below it. Lifetimes and later mixes are not shown to"
            " it, so other lifetimes and changing mixes have the same answers. There are no"
            " weights for GPUs of four slices: on those learned is default.",
        ),
        tables=(
            Table(("weights", "tuned on", "GPUs", "seeds"), tuple(rows)),
            _judged(results),
        ),
    )


def _judged(results: Mapping[str, Result]) -> Table:
    """Return the guard's findings: a line for each mix and load, a column for each cluster."""
    found: dict[tuple[str, float], dict[str, dict[str, None]]] = {}
    for cluster, mix, load, text in _findings(results):
        found.setdefault((mix, load), {}).setdefault(cluster, {})[text] = None
    sizes = {cluster: None for by_cluster in found.values() for cluster in by_cluster}
    clusters = sorted(sizes, key=lambda each: int(each.partition(" ")[0]))
    rows = tuple(
        (mix, f"{load:g}", *("; ".join(by_cluster.get(each, ())) for each in clusters))
        for (mix, load), by_cluster in found.items()
    )
    return Table(("guard: mix", "load", *clusters), rows)


def _findings(results: Mapping[str, Result]) -> Iterator[tuple[str, str, float, str]]:
    """Yield (cluster, mix, load, what was found); what several cells found alike is one."""
    for result in results.values():
        learned, s = result.series.get("learned"), result.scenario
        if learned is not None and learned.gain is not None:
            text = f"{points(learned.gain)}: {learned.decides}"
            yield f"{s.gpus} {s.model}", s.mix, s.load, text
