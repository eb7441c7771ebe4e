"""The report's section on our policies beside MFI, with what migration and geometry allow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.quality import plots
from benchmarks.quality.cells import LOADS, OURS
from benchmarks.quality.store import Result
from benchmarks.reporting.page import Section, Table, points
from extender.simulation.outcome import compared

Cells = Mapping[tuple[str, float], Result]


def against_mfi(cells: Cells, folder: Path) -> Section:
    """Return our policies and the references beside MFI; plots are drawn into *folder*."""
    rows = []
    for (mix, load), result in cells.items():
        row = [mix, f"{load:g}"]
        for policy in ("default", "learned"):
            if policy not in result.series:
                row += ["", "", ""]
                continue
            measured = {name: result.measures(name) for name in (policy, "mfi")}
            found = compared(policy, measured)["mfi"]
            avoided = found.rejections_avoided_pct
            row += [
                points(found.requests_pp),
                points(found.slices_pp),
                "" if avoided is None else f"{avoided:.0f} %",
            ]
        row.append(result.series["learned"].decides if "learned" in result.series else "")
        if "repack" in result.series:
            measured = {name: result.measures(name) for name in ("repack", "mfi")}
            free = compared("repack", measured)["mfi"]
            row += [points(free.requests_pp), points(free.slices_pp)]
        else:
            row += ["", ""]
        row.append(bound_of(result))
        rows.append(tuple(row))
    drawn = []
    for load in LOADS:
        name = f"plots/avoided-{load:g}.svg"
        policies = ("default", "learned", "fgd", "best-fit", "repack")
        plots.avoided(cells, load, policies, folder / name)
        drawn.append(name)
    return Section(
        title="Against MFI",
        text=(
            "MFI (minimum fragmentation increment, arXiv 2511.18906) is a published policy made for"
            f" MIG, and what default is held against. {_ahead_of_mfi(cells)} So the next section"
            " has every policy.",
            "Differences are in percentage points of requests and of slices; avoided is the share"
            " of MFI's rejections. The learned policy's weights are used only where a simulation"
            " on other seeds says that they beat default; the column decides tells which did.",
            "Two references are no policies. repack may move every instance at any time for nothing"
            " (free migration); it admits whatever fits then, so in requests a policy may be ahead"
            " of it. The bound is of acceptance itself, in per cent: no policy without migration"
            " can exceed it, on however many GPUs. It comes from a linear program over the layouts"
            " of a GPU and is loose for 100 GPUs; where it is 100, geometry alone forces nobody to"
            " be rejected.",
        ),
        tables=(
            Table(
                (
                    "mix",
                    "load",
                    "default: requests",
                    "slices",
                    "avoided",
                    "learned: requests",
                    "slices",
                    "avoided",
                    "decides",
                    "repack: requests",
                    "slices",
                    "bound (LP): requests (slices)",
                ),
                tuple(rows),
            ),
        ),
        plots=tuple(drawn),
    )


def _ahead_of_mfi(cells: Cells) -> str:
    """Say which of the others' policies are ahead of MFI, and in how many mixes and loads."""
    counts: dict[str, int] = {}
    for result in cells.values():
        others = [name for name in result.series if name not in (*OURS, "mfi", "repack")]
        measured = {name: result.measures(name) for name in ("mfi", *others)}
        for name, found in compared("mfi", measured).items():
            counts[name] = counts.get(name, 0) + found.requests_pp.below_zero
    ahead = sorted((name for name in counts if counts[name]), key=lambda name: -counts[name])
    if not ahead:
        return f"None of the others accepts more requests than MFI in any of {len(cells)} cells."
    said = ", ".join(f"{name} in {counts[name]}" for name in ahead)
    return (
        f"It is not the best of the others: of {len(cells)} mixes and loads these accept more"
        f" requests than MFI, the whole 95 % interval on their side: {said}."
    )


def bound_of(result: Result) -> str:
    """Return the bound of a cell in per cent: requests, and in brackets slices."""
    bound = result.bound
    return "" if bound is None else f"{100 * bound.requests:.1f} ({100 * bound.slices:.1f})"
