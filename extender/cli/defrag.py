"""``tangram defrag``: which VMs to move so that others have room."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from extender.advice import Advice, Asked, Misstated
from extender.cli.advised import shown
from extender.cli.asked import answer
from extender.cli.desk import Ca, DeskUrl, Kubeconfig, Token, Where
from extender.cli.output import Output, print_as
from extender.server.advised import MOVES

app = typer.Typer(
    name="defrag",
    help="Say which VMs to move so that others have room. It advises: nothing is moved.",
    no_args_is_help=True,
)


@app.callback()
def _defrag() -> None:
    """Take no options of its own."""


@app.command()
def plan(
    admit: Annotated[
        list[str] | None,
        typer.Option(metavar="NAMESPACE/POD", help="A pod that waits, or its VM (repeatable)."),
    ] = None,
    headroom: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COUNTxPROFILE",
            help="So many of a profile fit at once: 2x3g.40gb (repeatable).",
        ),
    ] = None,
    empty_gpus: Annotated[int, typer.Option(min=0, help="So many GPUs have nothing on them.")] = 0,
    empty_nodes: Annotated[
        int, typer.Option(min=0, help="So many nodes have nothing on their GPUs.")
    ] = 0,
    drain_gpu: Annotated[
        list[str] | None,
        typer.Option(metavar="UUID", help="This GPU has nothing on it (repeatable)."),
    ] = None,
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
    """Plan the fewest moves after which all that is asked for holds.

    Exits with 2 where no plan attains it: then it says why, and what comes nearest.
    """
    query: dict[str, list[str]] = {
        "admit": list(admit or ()),
        "headroom": list(headroom or ()),
        "drain-gpu": list(drain_gpu or ()),
        **({"empty-gpus": [str(empty_gpus)]} if empty_gpus else {}),
        **({"empty-nodes": [str(empty_nodes)]} if empty_nodes else {}),
        **({"most-moves": [str(most_moves)]} if most_moves is not None else {}),
    }
    try:
        asked = Asked.of(query)
    except Misstated as error:
        raise typer.BadParameter(str(error)) from error
    advised("defrag plan", asked, Where(desk, token, ca, kubeconfig), output)


def advised(command: str, asked: Asked, where: Where, output: Output) -> None:
    """Ask for advice, print it, and exit with 2 where it is that there is no plan."""
    said = answer(command, where, MOVES, asked.query(), Advice)
    if output is not Output.TEXT:
        print_as(output, said)
    else:
        console = Console(highlight=False)
        for each in shown(said):
            console.print(each, soft_wrap=True)
    if not said.attains:
        raise typer.Exit(2)
