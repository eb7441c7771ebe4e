"""What was found, for people."""

from __future__ import annotations

from typing import Any

from benchmarks.defrag.experiment import MOST_MOVES

WAYS = ("tangram", "tangram-default", "greedy")


def table(said: dict[str, Any]) -> str:
    """Return a Markdown table of the gap closed, with moves per 1,000 arrivals in brackets."""
    heads = [f"{way} +{most}" for most in MOST_MOVES for way in WAYS]
    lines = [
        "| load | mix | no moves | " + " | ".join(heads) + " |",
        "|" + "---|" * (3 + len(heads)),
    ]
    for cell in said["cells"]:
        ways = cell["ways"]
        cells = [
            f"{row['closed_pct']:.0f} % ({row['moves_per_1000']:.1f})"
            for most in MOST_MOVES
            for row in (ways[f"{way}+{most}"] for way in WAYS)
        ]
        none = f"{ways['default']['closed_pct']:.0f} %"
        lines.append(f"| {cell['load']:g} | {cell['mix']} | {none} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def page(said: dict[str, Any]) -> str:
    """Return the report."""
    means = said["gap_closed_slices_mean"]
    whole = [
        f"| {cell['load']:g} | {cell['mix']} | "
        + " | ".join(
            f"{100 * cell['ways'][way]['whole_gpus']:.1f}"
            for way in ("default", "tangram+1", "tangram+2", "tangram+3", "repack")
        )
        + f" | {cell['ways']['tangram+2']['moves_per_vm']:.4f}"
        + f" | {cell['ways']['tangram+2']['most_moves_of_a_vm']:.0f} |"
        for cell in said["cells"]
    ]
    return "\n".join(
        [
            "# Moves\n",
            f"100 {said['model']}; simulated demand that nobody waits for. A request that fits"
            " nowhere, but would if everything could be moved at once, is admitted where at most"
            " so many moves make room for it. In percent: how much of the way from MFI to that"
            " free migration is gone, in accepted memory slices; in brackets: moves per 1,000"
            " arrivals. `tangram` places by learned weights where their guard lets it, and by the"
            " default policy elsewhere; `tangram-default` by that alone; `greedy` is the mover of"
            " the published reference on the default policy.\n",
            f"At load 0.85, on average: {means['1']:.1f} % with one move, {means['2']:.1f} % with"
            f" two, {means['3']:.1f} % with three; the least with two moves is"
            f" {said['gap_closed_slices_min']:.1f} %. More than 100 % is possible: the reference"
            " admits greedily.\n",
            table(said) + "\n",
            "## Whole GPUs, and who is disturbed\n",
            "Accepted requests for a whole GPU in percent; moves per accepted VM with two moves,"
            " and the most that one VM was moved (mean over seeds).\n",
            "| load | mix | no moves | +1 | +2 | +3 | repack | moves per VM | most |",
            "|" + "---|" * 9,
            *whole,
            "",
        ]
    )
