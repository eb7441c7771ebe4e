"""What was found, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.defrag.experiment import LOADS, MODEL, MOST_MOVES, summary
from benchmarks.defrag.store import Kept
from benchmarks.made import text

WAYS = ("tangram", "tangram-default", "greedy")

Figure = tuple[float, float]
"""Percent of the gap closed, and moves per 1,000 arrivals."""

REFERENCE: dict[float, dict[str, tuple[Figure, Figure]]] = {
    0.85: {
        "uniform": ((81, 5.0), (93, 8.8)),
        "skew-small": ((88, 2.1), (94, 3.4)),
        "skew-big": ((68, 8.3), (87, 13)),
        "bimodal": ((66, 5.2), (81, 9.5)),
        "very-small": ((72, 4.9), (86, 8.3)),
        "mid": ((82, 2.2), (90, 4.1)),
        "no-4g": ((65, 4.7), (76, 9.2)),
    },
    1.0: {
        "uniform": ((71, 38), (87, 67)),
        "skew-small": ((80, 31), (89, 53)),
        "skew-big": ((70, 42), (84, 68)),
        "bimodal": ((63, 23), (78, 49)),
        "very-small": ((68, 30), (84, 57)),
        "mid": ((81, 32), (92, 51)),
        "no-4g": ((63, 24), (75, 50)),
    },
}
"""With one move and with two: a greedy mover over FGU, as published.

On other demands, 3 to 4 seeds of 8,000 to 10,000 arrivals; without decimals.
"""


def table(said: dict[str, Any]) -> str:
    """Return a Markdown table of the gap closed, with moves per 1,000 arrivals in brackets."""
    heads = [f"{way} +{most}" for most in MOST_MOVES for way in (*WAYS, "reference")]
    lines = [
        "| load | mix | placed by | no moves | " + " | ".join(heads) + " |",
        "|" + "---|" * (4 + len(heads)),
    ]
    for cell in said["cells"]:
        ways = cell["ways"]
        cells = []
        for at, most in enumerate(MOST_MOVES):
            rows = [ways[f"{way}+{most}"] for way in WAYS]
            cells += [f"{row['closed_pct']:.1f} % ({row['moves_per_1000']:.1f})" for row in rows]
            percent, moves = REFERENCE[cell["load"]][cell["mix"]][at]
            cells.append(f"{percent:g} % ({moves:g})")
        none = f"{ways['default']['closed_pct']:.0f} %"
        lines.append(
            f"| {cell['load']:g} | {cell['mix']} | {cell['decides']} | {none} | "
            + " | ".join(cells)
            + " |"
        )
    return "\n".join(lines)


def page(kept: Sequence[Kept]) -> str:
    """Return the report."""
    cells = [each.cell for each in kept]
    said = summary(cells)
    runs = sorted({text(each.made) for each in kept})
    whole = [
        f"| {cell['load']:g} | {cell['mix']} | "
        + " | ".join(
            f"{100 * cell['ways'][way]['whole_gpus']:.1f}"
            for way in ("default", "tangram+1", "tangram+2", "repack")
        )
        + f" | {cell['ways']['tangram+2']['moves_per_vm']:.4f}"
        + f" | {cell['ways']['tangram+2']['most_moves_of_a_vm']:.1f} |"
        for cell in said["cells"]
    ]
    seeds = sorted({(each["seeds"], each["arrivals"]) for each in said["cells"]})
    return "\n".join(
        [
            "# Moves\n",
            f"100 {MODEL}; simulated demand that nobody waits for,"
            f" {' or '.join(f'{many} seeds of {of:,} arrivals' for many, of in seeds)} after a"
            " warm-up. A request that fits"
            " nowhere, but would if everything could be moved at once, is admitted where at most"
            " so many moves make room for it. In percent: how much of the way from MFI to that"
            " free migration is gone, in accepted memory slices; in brackets: moves per 1,000"
            " arrivals. `tangram` places by learned weights where their guard lets it, and by the"
            " default policy elsewhere; `tangram-default` by that alone; `greedy` is the mover of"
            " the published reference on the default policy, on the same demands; `reference` are"
            " the published figures.\n",
            _summed(said, cells),
            table(said) + "\n",
            "## Whole GPUs, and who is disturbed\n",
            "Accepted requests for a whole GPU in percent; moves per accepted VM with two moves,"
            " and the most that one VM was moved (mean over seeds).\n",
            "| load | mix | no moves | +1 | +2 | repack | moves per VM | most |",
            "|" + "---|" * 8,
            *whole,
            "",
            f"Made: {'; '.join(runs)}.\n",
        ]
    )


def _summed(said: dict[str, Any], cells: Sequence[Any]) -> str:
    means, least = said["gap_closed_slices_mean"], said["gap_closed_slices_min"]
    if least is None:
        return ""
    many = sum(each.load == LOADS[0] for each in cells)
    return (
        f"At load {LOADS[0]:g}, on average over {many} mixes: {means['1']:.1f} % with one move,"
        f" {means['2']:.1f} % with two; `gap_closed_slices_min`, the least with two moves, is"
        f" {least:.1f} %. More than 100 % is possible: the reference admits greedily.\n"
    )
