"""The commands, and what they have in common: logs as JSON events on stderr."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from extender.cli import defrag, harvester
from extender.cli.completion import completion
from extender.cli.demo import demo
from extender.cli.drain import drain
from extender.cli.explain import explain
from extender.cli.nodes import nodes
from extender.cli.page import page
from extender.cli.policy import policy
from extender.cli.replay import replay
from extender.cli.scheduler_config import scheduler_config
from extender.cli.serve import serve
from extender.cli.simulate import simulate
from extender.cli.top import top
from nodeagent.logs import LEVELS, Format, log_to_stderr

app = typer.Typer(
    name="tangram",
    help="Packs MIG-backed vGPU virtual machines onto NVIDIA GPUs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(demo)
app.command()(serve)
app.command()(explain)
app.command()(nodes)
app.command()(top)
app.add_typer(defrag.app)
app.command()(drain)
app.command()(page)
app.command()(replay)
app.command()(scheduler_config)
app.command()(simulate)
app.add_typer(policy)
app.command()(completion)
app.add_typer(harvester.app)

QUIET = ("demo", "page")
"""Commands for people: they hear of what is wrong, not of every step."""

MUTE = ("replay", "simulate")
"""Commands that play what has been told of, or never happens."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tangram {version('tangram-vgpu')}")
        raise typer.Exit


@app.callback()
def configure(
    context: typer.Context,
    log_level: str = typer.Option(
        "",
        "--log-level",
        help=f"Least severe log event shown: {', '.join(LEVELS)}."
        " [default: info; warning for demo and page, error for replay and simulate]",
        show_default=False,
    ),
    log_format: Annotated[
        Format, typer.Option(help="Log events as JSON objects, or for people.")
    ] = Format.JSON,
    show_version: bool = typer.Option(
        False, "--version", help="Print the version.", callback=_print_version, is_eager=True
    ),
) -> None:
    """Set up logs for the command that follows."""
    command = context.invoked_subcommand
    told = "error" if command in MUTE else "warning" if command in QUIET else "info"
    level = log_level or told
    if level.lower() not in LEVELS:
        raise typer.BadParameter(
            f"{level} is none of {', '.join(LEVELS)}", param_hint="--log-level"
        )
    log_to_stderr(level, log_format)


def main() -> None:
    """Run the command line."""
    app()
