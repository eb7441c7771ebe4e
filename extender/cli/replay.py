"""``tangram replay``: a log's decisions made again, or a recorded demand under other policies."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from extender.cli import output as printed
from extender.cli import policies
from extender.cli.printable import printable
from extender.cli.records import demand
from extender.cli.replayed import shown
from extender.cli.reproduced import shown as reproduction
from extender.cli.trying import tried, writable, write_page
from extender.decision_log import LogUnreadable, reproduced, runs
from extender.replay.recorded import Recorded


class Output(StrEnum):
    """How the answer is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def replay(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="LOG…",
            help="Files of a decision log, or folders of them, as kept by serve; with --policy one"
            " may be a recorded demand, as --record writes it here and in `tangram simulate`.",
        ),
    ],
    policy: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|FILE", help=f"To try (repeatable): {policies.HELP}"),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="REPORT.html", help="Write the report as one HTML file, too; with --policy."
        ),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Write the demand of the log there, too: the fleet, who came, what was decided,"
            " who left. Of several runs, that with the most pods.",
        ),
    ] = None,
    output: Annotated[
        Output, typer.Option(help="table, json or yaml; json and yaml list every VM.")
    ] = Output.TABLE,
) -> None:
    """Make every decision of a log again, and compare; with --policy, try policies on its demand.

    Exit code 1 if a decision comes out differently. The demand is played under the policy it was
    recorded with, and under each of the others, through the code that decides in the cluster:
    should the policy be changed?
    """
    if policy:
        if record is not None:
            raise typer.BadParameter("does not go with --policy", param_hint="--record")
        _tried(files, policy, html, output)
    elif html is not None:
        raise typer.BadParameter(
            "needs --policy: it reports what policies come to", param_hint="--html"
        )
    else:
        _made_again(files, record, output)


def _made_again(logs: Sequence[Path], record: Path | None, output: Output) -> None:
    try:
        every = runs(logs)
        found = reproduced(every)
        if record is not None:
            _write(record, demand(every))
    except LogUnreadable as error:
        told = printable(f"{error} (a recorded demand is tried with --policy)")
        raise typer.BadParameter(told, param_hint="LOG") from error
    if output is Output.TABLE:
        Console(highlight=False, soft_wrap=True).print(*reproduction(found), sep="\n")
    else:
        answer = {**msgspec.to_builtins(found), "exact": found.exact}
        printed.print_as(printed.Output(output.value), answer)
    if found.differing:
        raise typer.Exit(1)


def _write(path: Path, recorded: Recorded) -> None:
    try:
        path.write_bytes(msgspec.json.encode(recorded))
    except OSError as error:
        raise typer.BadParameter(
            f"{path}: cannot be written: {error.strerror}", param_hint="--record"
        ) from error


def _tried(files: Sequence[Path], policy: Sequence[str], html: Path | None, output: Output) -> None:
    began = time.perf_counter()
    if html is not None:
        writable(html)
    answer = tried(files, policy)
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
