"""``tangram drain``: where the VMs of a node can go, what holds it, and having them moved."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from extender.advice import Asked
from extender.cli.applying import Wait, Yes, advised, applied
from extender.cli.desk import Ca, DeskUrl, Kubeconfig, Token, Where
from extender.cli.output import Output


class Doing(StrEnum):
    """What to do about a drain."""

    PLAN = "plan"
    APPLY = "apply"


def drain(
    node: Annotated[str, typer.Argument(help="The node that is to be empty of VMs with vGPUs.")],
    doing: Annotated[
        Doing,
        typer.Argument(metavar="plan|apply", help="Say what goes where; or have it done as well."),
    ],
    most_moves: Annotated[
        int | None, typer.Option(min=0, help="Move at most so many VMs; else as many as it takes.")
    ] = None,
    as_far: Annotated[
        bool,
        typer.Option(
            "--as-far-as-possible",
            help="Where some cannot leave, move those that can all the same.",
        ),
    ] = False,
    yes: Yes = False,
    wait: Wait = False,
    output: Annotated[Output, typer.Option("--output", "-o", help="How to print it.")] = (
        Output.TEXT
    ),
    desk: DeskUrl = "",
    token: Token = "",
    ca: Ca = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Say where the VMs of a node can go, in which order, and what holds it: before an upgrade.

    Nobody is kept from coming to the node anew: `kubectl cordon` does that, and comes first.
    """
    asked = Asked(drain=(node,), most_moves=most_moves, as_far=as_far)
    where = Where(desk, token, ca, kubeconfig)
    if doing is Doing.PLAN:
        advised(f"drain {node} plan", asked, where, output)
    else:
        applied(f"drain {node} apply", asked, where, output, yes=yes, wait=wait)
