"""``tangram replay``: a recorded demand under other policies, before they are used."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from extender.cli import output as printed
from extender.cli import policies
from extender.cli.playing import played
from extender.cli.records import read
from extender.cli.replayed import shown
from extender.policy import InForce
from extender.replay.compare import report
from extender.replay.document import Report
from extender.replay.parsing import MalformedRecord, policy_of

RECORDED = "recorded"
"""What the policy of the record is called."""


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
    try:
        recorded = read(file)
        own = policy_of(recorded, str(file))
    except MalformedRecord as error:
        raise typer.BadParameter(str(error), param_hint="FILE") from error
    named = [(RECORDED, own), *_named(policy)]
    answer = report(recorded, [by for _, by in named], played(recorded, named))
    if html is not None:
        _write(html, answer)
    if output is Output.TABLE:
        # Without a terminal there is no width to keep to, and the tables are some 110 wide.
        width = None if sys.stdout.isatty() else 120
        Console(highlight=False, width=width).print(*shown(answer), sep="\n")
    else:
        printed.print_as(printed.Output(output.value), answer)


def _named(texts: Sequence[str]) -> list[tuple[str, InForce]]:
    """Return the policies, each by a name of its own: a file's is what it is called."""
    found: dict[str, InForce] = {}
    for text in texts:
        policy, source = policies.in_force(text)
        name = text if source is None else source.path.name
        found[text if name in found or name == RECORDED else name] = policy
    return list(found.items())


def _write(path: Path, answer: Report) -> None:
    try:
        from extender.reporting.replayed import page
    except ImportError as error:
        raise typer.BadParameter(
            f"{error.name} is not installed: pip install 'tangram-vgpu[report]'",
            param_hint="--html",
        ) from error
    try:
        path.write_text(page(answer), "utf-8")
    except OSError as error:
        raise typer.BadParameter(
            f"{path}: cannot be written: {error.strerror}", param_hint="--html"
        ) from error
