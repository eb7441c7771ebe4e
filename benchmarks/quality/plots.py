"""The report's plots, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.quality.differences import Below
from benchmarks.quality.store import Result
from benchmarks.reporting.drawing import save
from extender.simulation.outcome import compared

Cells = Mapping[tuple[str, float], Result]

COLOURS = {
    "default": "#1b6ca8",
    "learned": "#0b3c5d",
    "fgd": "#8a8d3f",
    "best-fit": "#b8860b",
    "first-fit": "#a0a0a0",
    "mfi": "#c0504d",
    "repack": "#303030",
}


def avoided(cells: Cells, load: float, policies: Sequence[str], path: Path) -> None:
    """Draw the share of MFI's rejections that each policy avoids, by mix."""
    mixes = [mix for mix, at in cells if at == load]
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(policies)
    for number, policy in enumerate(policies):
        values = []
        for mix in mixes:
            result = cells[mix, load]
            found = None
            if policy in result.series:
                measured = {name: result.measures(name) for name in (policy, "mfi")}
                found = compared(policy, measured)["mfi"].rejections_avoided_pct
            values.append(found or 0.0)
        at = [place + (number + 0.5) * width - 0.4 for place in range(len(mixes))]
        axes.bar(at, values, width, label=policy, color=COLOURS[policy])
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(mixes)), mixes)
    axes.set_ylabel("MFI's rejections avoided, %")
    axes.set_ylim(bottom=max(axes.get_ylim()[0], -100.0))
    axes.set_title(f"load {load:g}", loc="left")
    figure.legend(ncols=len(policies), frameon=False, fontsize="small", loc="outside upper right")
    save(figure, path)


def largest_profile(cells: Cells, load: float, policies: Sequence[str], path: Path) -> None:
    """Draw the acceptance of requests for a whole GPU, by mix."""
    mixes = [mix for mix, at in cells if at == load]
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    for policy in policies:
        values = []
        for mix in mixes:
            result = cells[mix, load]
            whole = max(result.sizes, key=lambda name: result.sizes[name])
            accepted = sum(result.series[policy].accepted[whole])
            values.append(100 * accepted / sum(result.asked[whole]))
        axes.plot(range(len(mixes)), values, "o", label=policy, color=COLOURS[policy])
    axes.set_xticks(range(len(mixes)), mixes)
    axes.set_ylabel("whole-GPU requests accepted, %")
    axes.set_title(f"load {load:g}", loc="left")
    axes.grid(axis="y", linewidth=0.3)
    figure.legend(ncols=len(policies), frameon=False, fontsize="small", loc="outside upper right")
    save(figure, path)


def differences(found: Sequence[Below], title: str, path: Path) -> None:
    """Draw differences with their intervals, the smallest at the bottom."""
    ordered = sorted(found, key=lambda each: each.mean)
    figure = Figure(figsize=(8, 1.2 + 0.055 * len(ordered)), layout="constrained")
    axes = figure.subplots()
    for place, each in enumerate(ordered):
        colour = "#c0504d" if each.significant else "#1b6ca8"
        axes.plot([each.mean - each.ci95, each.mean + each.ci95], [place] * 2, color=colour, lw=0.8)
        axes.plot(each.mean, place, ".", color=colour, markersize=3)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks([])
    axes.set_xlabel("percentage points of requests")
    axes.set_title(title, loc="left")
    save(figure, path)
