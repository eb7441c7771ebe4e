"""``tangram replay``: the decisions of a log made again, and compared with what they were."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from extender.cli import output as printed
from extender.cli.reproduced import shown
from extender.decision_log import LogUnreadable, reproduced, runs


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
    output: Annotated[
        Output, typer.Option(help="table, json or yaml; json and yaml are for programs.")
    ] = Output.TABLE,
) -> None:
    """Make every decision of a log again, and compare: exit code 1 if any differs."""
    try:
        found = reproduced(runs(log))
    except LogUnreadable as error:
        raise typer.BadParameter(str(error), param_hint="LOG") from error
    if output is Output.TABLE:
        Console(highlight=False, soft_wrap=True).print(*shown(found), sep="\n")
    else:
        answer = {**msgspec.to_builtins(found), "exact": found.exact}
        printed.print_as(printed.Output(output.value), answer)
    if found.differing:
        raise typer.Exit(1)
