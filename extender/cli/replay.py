"""``tangram replay``: the decisions of a log made again, and compared with what they were."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from extender.cli import output as printed
from extender.cli.reproduced import shown
from extender.decision_log import LogUnreadable, Run, recorded, reproduced, runs


class Output(StrEnum):
    """How the answer is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def replay(
    log: Annotated[
        list[Path],
        typer.Argument(
            metavar="LOG…", help="Files of a decision log, or folders of them, as kept by serve."
        ),
    ],
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Write the demand of the log there, too: the fleet, who came, what was decided,"
            " who left. Of several runs, that with the most pods.",
        ),
    ] = None,
    output: Annotated[
        Output, typer.Option(help="table, json or yaml; json and yaml are for programs.")
    ] = Output.TABLE,
) -> None:
    """Make every decision of a log again, and compare: exit code 1 if any differs."""
    try:
        every = runs(log)
        found = reproduced(every)
        if record is not None:
            _write(record, every)
    except LogUnreadable as error:
        raise typer.BadParameter(str(error), param_hint="LOG") from error
    if output is Output.TABLE:
        Console(highlight=False, soft_wrap=True).print(*shown(found), sep="\n")
    else:
        answer = {**msgspec.to_builtins(found), "exact": found.exact}
        printed.print_as(printed.Output(output.value), answer)
    if found.differing:
        raise typer.Exit(1)


def _write(path: Path, every: Sequence[Run]) -> None:
    """Write the demand of the run that tells of the most pods."""
    demands = [recorded(run.header, run.items()) for run in every]
    largest = max(demands, key=lambda each: len(each.arrivals))
    try:
        path.write_bytes(msgspec.json.encode(largest))
    except OSError as error:
        raise typer.BadParameter(
            f"{path}: cannot be written: {error.strerror}", param_hint="--record"
        ) from error
