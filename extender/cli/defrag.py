"""``tangram defrag``: which VMs to move so that others have room, and having them moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from extender.advice import Asked, Misstated
from extender.cli.applying import Wait, Yes, advised, applied, stopped, under_way
from extender.cli.desk import Ca, DeskUrl, Kubeconfig, Token, Where
from extender.cli.output import Output

app = typer.Typer(
    name="defrag",
    help="Say which VMs to move so that others have room, and have them moved.",
    no_args_is_help=True,
)

Admit = Annotated[
    list[str] | None,
    typer.Option(metavar="NAMESPACE/POD", help="A pod that waits, or its VM (repeatable)."),
]
Headroom = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COUNTxPROFILE",
        help="So many of a profile fit at once: 2x3g.40gb (repeatable).",
    ),
]
EmptyGpus = Annotated[int, typer.Option(min=0, help="So many GPUs have nothing on them.")]
EmptyNodes = Annotated[int, typer.Option(min=0, help="So many nodes have nothing on their GPUs.")]
DrainGpu = Annotated[
    list[str] | None,
    typer.Option(metavar="UUID", help="This GPU has nothing on it (repeatable)."),
]
MostMoves = Annotated[
    int | None, typer.Option(min=0, help="Move at most so many VMs; else as many as it takes.")
]
As = Annotated[Output, typer.Option("--output", "-o", help="How to print it.")]


@app.callback()
def _defrag() -> None:
    """Take no options of its own."""


@app.command()
def plan(
    admit: Admit = None,
    headroom: Headroom = None,
    empty_gpus: EmptyGpus = 0,
    empty_nodes: EmptyNodes = 0,
    drain_gpu: DrainGpu = None,
    most_moves: MostMoves = None,
    output: As = Output.TEXT,
    desk: DeskUrl = "",
    token: Token = "",
    ca: Ca = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Plan the fewest moves after which all that is asked for holds; nothing is moved.

    Exits with 2 where no plan attains it: then it says why, and what comes nearest.
    """
    asked = _asked(admit, headroom, empty_gpus, empty_nodes, drain_gpu, most_moves)
    advised("defrag plan", asked, Where(desk, token, ca, kubeconfig), output)


@app.command()
def apply(
    admit: Admit = None,
    headroom: Headroom = None,
    empty_gpus: EmptyGpus = 0,
    empty_nodes: EmptyNodes = 0,
    drain_gpu: DrainGpu = None,
    most_moves: MostMoves = None,
    yes: Yes = False,
    wait: Wait = False,
    output: As = Output.TEXT,
    desk: DeskUrl = "",
    token: Token = "",
    ca: Ca = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Plan, show the plan, and have its moves made: where the policy says `moves: {mode: apply}`.

    Exits with 2 where no plan attains what is asked for; with --wait, with 3 where the moves end
    before all are made.
    """
    asked = _asked(admit, headroom, empty_gpus, empty_nodes, drain_gpu, most_moves)
    where = Where(desk, token, ca, kubeconfig)
    applied("defrag apply", asked, where, output, yes=yes, wait=wait)


@app.command()
def status(
    output: As = Output.TEXT,
    desk: DeskUrl = "",
    token: Token = "",
    ca: Ca = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Say how far the moves have come that were applied last."""
    under_way("defrag status", Where(desk, token, ca, kubeconfig), output)


@app.command()
def stop(
    output: As = Output.TEXT,
    desk: DeskUrl = "",
    token: Token = "",
    ca: Ca = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Have nobody told to leave any more; a VM that is on its way comes to its place, Ready or not.

    One that migrates live runs on where it is: its migration is taken back.
    """
    stopped("defrag stop", Where(desk, token, ca, kubeconfig), output)


def _asked(
    admit: Sequence[str] | None,
    headroom: Sequence[str] | None,
    empty_gpus: int,
    empty_nodes: int,
    drain_gpu: Sequence[str] | None,
    most_moves: int | None,
) -> Asked:
    query: dict[str, list[str]] = {
        "admit": list(admit or ()),
        "headroom": list(headroom or ()),
        "drain-gpu": list(drain_gpu or ()),
        **({"empty-gpus": [str(empty_gpus)]} if empty_gpus else {}),
        **({"empty-nodes": [str(empty_nodes)]} if empty_nodes else {}),
        **({"most-moves": [str(most_moves)]} if most_moves is not None else {}),
    }
    try:
        return Asked.of(query)
    except Misstated as error:
        raise typer.BadParameter(str(error)) from error
