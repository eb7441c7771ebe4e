"""``tangram nodes``: every GPU node, what is used of it, and what would still fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from extender.cli.asked import answer
from extender.cli.desk import Ca, DeskUrl, Kubeconfig, Token, Where
from extender.cli.output import Output, print_as
from extender.explain.nodes import READY, NodeRow, Roster
from extender.server.explained import NODES

BAR = 16  # characters


def nodes(
    output: Annotated[Output, typer.Option("--output", "-o", help="How to print them.")] = (
        Output.TEXT
    ),
    pool: Annotated[str, typer.Option(help="Only the nodes of this pool.")] = "",
    not_ready: Annotated[
        bool, typer.Option("--not-ready", help="Only nodes that take nothing new.")
    ] = False,
    desk: DeskUrl = "",
    token: Token = "",
    ca: Ca = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """List the GPU nodes: what is used of each, and what would still fit."""
    found = answer("nodes", Where(desk, token, ca, kubeconfig), NODES, {}, Roster)
    rows = [
        row
        for row in found.nodes
        if (not pool or row.pool == pool) and (not not_ready or row.state != READY)
    ]
    if output is not Output.TEXT:
        print_as(output, rows)
        return
    console = Console(highlight=False)
    console.print(node_table(rows))
    console.print()
    console.print(summary(rows))


def node_table(rows: Iterable[NodeRow]) -> Table:
    """Return nodes as lines of a table."""
    rows = list(rows)
    table = Table(box=None, padding=(0, 2), header_style="bold")
    pools = any(row.pool for row in rows)
    table.add_column("NODE", overflow="fold")
    if pools:
        table.add_column("POOL")
    table.add_column("STATE")
    table.add_column("GPUS")
    table.add_column("MEMORY SLICES")
    table.add_column("UNUSABLE", justify="right")
    table.add_column("VMS", justify="right")
    table.add_column("LARGEST THAT FITS")
    for row in rows:
        ready = row.state == READY
        largest = f"{row.fits[row.largest]} x {row.largest}" if row.largest else "-"
        table.add_row(
            row.name,
            *([row.pool] if pools else []),
            Text(row.state, style="green" if ready else "red"),
            row.gpus,
            bar(row.used, row.slices),
            str(row.unusable),
            str(row.vms),
            largest if ready else Text(row.why, style="dim"),
        )
    return table


def bar(used: int, slices: int) -> Text:
    """Return how much is used, as a bar and in numbers."""
    full = round(BAR * used / slices) if slices else 0
    drawn = Text("█" * full, style="cyan")
    drawn.append("·" * (BAR - full), style="dim")
    drawn.append(f" {used}/{slices}")
    return drawn


def summary(rows: Sequence[NodeRow]) -> Text:
    """Return all nodes in one line: what is used, and how many more of each profile would fit."""
    used, slices = sum(row.used for row in rows), sum(row.slices for row in rows)
    ready = sum(row.state == READY for row in rows)
    fits: Counter[str] = Counter()
    for row in sorted(rows, key=lambda row: -len(row.fits)):  # who has room for most, has the order
        fits.update(row.fits)
    text = Text(f"{len(rows)} nodes, {ready} ready; {used} of {slices} memory slices used")
    if fits:
        counts = ", ".join(f"{count} x {name}" for name, count in fits.items())
        text.append(f"; room for {counts} (each alone)")
    return text.append(".")
