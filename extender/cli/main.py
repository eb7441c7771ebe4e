"""The commands, and what they have in common: logs as JSON events on stderr."""

from __future__ import annotations

import logging
import sys
from importlib.metadata import version

import structlog
import typer

from extender.cli.demo import demo
from extender.cli.serve import serve

app = typer.Typer(
    name="tangram",
    help="Packs MIG-backed vGPU virtual machines onto NVIDIA GPUs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(demo)
app.command()(serve)


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
        help="Least severe log event shown: debug, info, warning, error."
        " [default: info; warning for demo]",
        show_default=False,
    ),
    show_version: bool = typer.Option(
        False, "--version", help="Print the version.", callback=_print_version, is_eager=True
    ),
) -> None:
    """Set up logs for the command that follows."""
    log_level = log_level or ("warning" if context.invoked_subcommand == "demo" else "info")
    level = logging.getLevelNamesMapping().get(log_level.upper())
    if level is None:
        raise typer.BadParameter(f"{log_level} is none of debug, info, warning, error")
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def main() -> None:
    """Run the command line."""
    app()
