"""``tangram completion``: what makes a shell complete the commands and their options."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from typer.completion import shell_complete

NAMES = ("tangram", "kubectl-tangram")
"""What the command line is installed as."""


class Shell(StrEnum):
    """A shell that can complete."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    context: typer.Context,
    shell: Annotated[Shell, typer.Argument(help="Your shell.")],
) -> None:
    """Print a script that makes your shell complete: source <(tangram completion bash)."""
    root = context.find_root()
    name = root.info_name if root.info_name in NAMES else NAMES[0]
    variable = f"_{name}_COMPLETE".replace("-", "_").upper()
    status = shell_complete(root.command, {}, name, variable, f"source_{shell.value}")
    raise typer.Exit(status)
