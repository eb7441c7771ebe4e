"""``tangram replay``: a recorded demand under other policies, before they are used."""

from __future__ import annotations

import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from extender.cli import output as printed
from extender.cli import policies
from extender.cli.replayed import shown
from extender.cli.trying import tried, write_page


class Output(StrEnum):
    """How the answer is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def replay(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A recorded demand, as `tangram simulate --record` writes it."
        ),
    ],
    policy: Annotated[
        list[str],
        typer.Option(metavar="NAME|FILE", help=f"To try (repeatable): {policies.HELP}"),
    ],
    html: Annotated[
        Path | None,
        typer.Option(metavar="REPORT.html", help="Write the report as one HTML file, too."),
    ] = None,
    output: Annotated[
        Output, typer.Option(help="table, json or yaml; json and yaml list every VM.")
    ] = Output.TABLE,
) -> None:
    """Try policies on recorded demand: should the policy be changed?

    Plays the record under the policy it was made with, and under each of the others, through the
    code that decides in the cluster.
    """
    began = time.perf_counter()
    answer = tried(file, policy)
    if html is not None:
        write_page(html, answer)
    if output is Output.TABLE:
        # Without a terminal there is no width to keep to, and the tables are some 110 wide.
        width = None if sys.stdout.isatty() else 120
        Console(highlight=False, width=width).print(*shown(answer), sep="\n")
    else:
        printed.print_as(printed.Output(output.value), answer)
    count, seconds = len(answer.policies), time.perf_counter() - began
    typer.echo(f"{answer.record.arrivals} VMs, {count} policies: {seconds:.1f} s", err=True)
