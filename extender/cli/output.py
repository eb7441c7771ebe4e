"""How what a command has found is printed: for people, or as JSON or YAML for programs."""

from __future__ import annotations

from enum import StrEnum

import msgspec
import typer


class Output(StrEnum):
    """How the answer is printed."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"


def print_as(output: Output, value: object) -> None:
    """Print a value for programs."""
    if output is Output.YAML:
        typer.echo(msgspec.yaml.encode(value), nl=False)
    else:
        typer.echo(msgspec.json.format(msgspec.json.encode(value)))
