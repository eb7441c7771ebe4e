"""``tangram drain``: where the VMs of a node can go, and what holds it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from extender.advice import Asked
from extender.cli.defrag import advised
from extender.cli.desk import Ca, DeskUrl, Kubeconfig, Token, Where
from extender.cli.output import Output


class Doing(StrEnum):
    """What to do about a drain."""

    PLAN = "plan"


def drain(
    node: Annotated[str, typer.Argument(help="The node that is to be empty of VMs with vGPUs.")],
    doing: Annotated[
        Doing, typer.Argument(metavar="plan", help="Say what goes where; nothing is moved.")
    ],
    most_moves: Annotated[
        int | None, typer.Option(min=0, help="Move at most so many VMs; else as many as it takes.")
    ] = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="How to print it.")] = (
        Output.TEXT
    ),
    desk: DeskUrl = "",
    token: Token = "",
    ca: Ca = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Say where the VMs of a node can go, in which order, and what holds it: before an upgrade."""
    asked = Asked(drain=(node,), most_moves=most_moves)
    advised(f"drain {node} {doing.value}", asked, Where(desk, token, ca, kubeconfig), output)
