"""The report's section on what the learned policy's weights were tuned and judged on."""

from __future__ import annotations

from benchmarks.quality.cells import SEEDS
from benchmarks.reporting.page import Section, Table
from extender.simulation.question import TRIALS
from extender.simulation.trained import stored
from extender.simulation.training import Effort


def tuning() -> Section:
    """Return what each set of weights was tuned on, and how it did on the guard's demands."""
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
                f"{trained.load:g}",
                f"{trained.gain:+.2f} ± {trained.gain_ci95:.2f}",
                "yes" if trained.better else "NO",
            )
        )
    return Section(
        title="What learned was trained on",
        text=(
            "The weights that come with Tangram are tables made beforehand, one for each mix below,"
            " by the cross-entropy method that tangram policy train uses. Each was tuned on its own"
            f" mix alone: Poisson arrivals at load {effort.load:g}, exponential lifetimes,"
            f" {effort.arrivals:,} counted requests a demand. The guard then judged it at another"
            f" load, on seeds {TRIALS.first_seed} to {last} and {TRIALS.arrivals:,} requests each."
            f" This report's seeds are {SEEDS[0]} to {SEEDS[-1]}: neither tuning nor guard saw"
            " them. But it did see the mixes, so where this report uses the same mix, learned has"
            " been shown it, and default has not. In other mixes the nearest weights are tried, and"
            " used only if the guard finds them better there.",
            f"Where the seeds are not from {effort.seed} (*), the weights come from a second"
            " search, which began at the first one's result and drew demands of its own. They took"
            " its place because they accept more on yet other seeds, as the file of the weights"
            " records.",
        ),
        tables=(
            Table(
                (
                    "weights",
                    "tuned on",
                    "GPUs",
                    "seeds",
                    "judged at load",
                    "gain beyond default, points of acceptance",
                    "used",
                ),
                tuple(rows),
            ),
        ),
    )
