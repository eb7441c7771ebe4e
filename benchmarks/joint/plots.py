"""The report's plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.joint.burst import Row
from benchmarks.joint.losses import GOAL_SECONDS
from benchmarks.reporting.drawing import save

COLOURS = {"largest": "#b8860b", "served": "#8a8d3f", "joint": "#1b6ca8"}
LABELS = {
    "largest": "one by one, the largest first",
    "served": "planned together, as served",
    "joint": "planned together, with time",
}


def gains(bursts: Sequence[Row], demand: str, path: Path) -> None:
    """Draw what each way admits beyond the order of arrival, in per cent, by burst and fill."""
    rows = [row for row in bursts if row["demand"] == demand]
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(LABELS)
    for number, (way, label) in enumerate(LABELS.items()):
        values = [100 * (row[f"{way}_slices"] / row["arrival_slices"] - 1) for row in rows]
        at = [place + (number + 0.5) * width - 0.4 for place in range(len(rows))]
        axes.bar(at, values, width, label=label, color=COLOURS[way])
    axes.axhline(0, color="black", linewidth=0.8)
    names = [f"{row['burst']}\n{row['fill']:.0%}" for row in rows]
    axes.set_xticks(range(len(rows)), names)
    axes.set_xlabel("pods in the burst, and how full the GPUs were before")
    axes.set_ylabel("slices admitted beyond\nthe order of arrival, %")
    figure.legend(ncols=len(LABELS), frameon=False, fontsize="small", loc="outside upper right")
    save(figure, path)


def times(sizes: Sequence[Row], path: Path) -> None:
    """Draw the processor time of a plan by the number of GPUs, a line for each demand."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    for requests in dict.fromkeys(row["requests"] for row in sizes):
        rows = [row for row in sizes if row["requests"] == requests]
        axes.plot(
            [row["gpus"] for row in rows],
            [row["processor_least_s"] for row in rows],
            "o-",
            label=f"{requests:,} requests",
        )
    axes.axhline(GOAL_SECONDS, color="black", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("GPUs")
    axes.set_ylabel("processor time of a plan, s")
    axes.grid(linewidth=0.3)
    figure.legend(frameon=False, fontsize="small", loc="outside right center")
    save(figure, path)
