"""``tangram explain``: why a pod waits, or is where it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from extender.cli.asked import answer
from extender.cli.desk import Ca, DeskUrl, Kubeconfig, Token, Where
from extender.cli.output import Output, print_as
from extender.explain import Explanation
from extender.explain.explanation import Group, State
from extender.server.explained import EXPLAIN

STATES = {
    State.PLACED: ("has its place", "green"),
    State.FITS: ("fits", "green"),
    State.REFUSED: ("is refused", "red"),
    State.NEVER: ("can never be placed", "red"),
    State.OVER: ("has ended", "dim"),
    State.NOT_OURS: ("is not for Tangram to place", "dim"),
}


def explain(
    pod: Annotated[str, typer.Argument(help="The pod, or the VM that it runs.")],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Its namespace.")] = "default",
    output: Annotated[Output, typer.Option("--output", "-o", help="How to print it.")] = (
        Output.TEXT
    ),
    desk: DeskUrl = "",
    token: Token = "",
    ca: Ca = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Say why a pod waits, or is where it is: what is missing, and what would help."""
    where = Where(desk, token, ca, kubeconfig)
    query = {"namespace": namespace, "pod": pod}
    said = answer("explain", where, EXPLAIN, query, Explanation)
    if output is not Output.TEXT:
        print_as(output, said)
        return
    console = Console(highlight=False)
    for each in shown(said):
        console.print(each)


def shown(said: Explanation) -> Iterator[Text | Table]:
    """Yield an explanation as it is printed: a heading, sentences, and the nodes in counts."""
    state, colour = STATES[said.state]
    yield Text.assemble((f"{said.namespace}/{said.pod}", "bold"), " ", (state, colour), ".")
    for sentence in said.sentences:
        yield Text(f"  {sentence}")
    if said.groups:
        yield Text()
        yield groups_table(said.groups)
    yield Text()
    yield Text(
        f"{said.nodes} nodes with {said.gpus} GPUs looked at."
        f" Policy {said.policy}, version {said.policy_version}.",
        style="dim",
    )


def groups_table(groups: tuple[Group, ...]) -> Table:
    """Return how groups of nodes stand, a line for each reason."""
    table = Table(box=None, padding=(0, 2), header_style="bold")
    pools = any(group.pool for group in groups)
    table.add_column("GPUS OF A NODE")
    if pools:
        table.add_column("POOL")
    table.add_column("NODES", justify="right")
    table.add_column("")
    for group in groups:
        who = [group.gpus, *([group.pool] if pools else [])]
        lines: list[tuple[str, Text]] = []
        if group.fits:
            lines.append((str(group.fits), Text("it fits", style="green")))
        for reason in group.reasons:
            example = f" ({reason.example}{', …' if reason.nodes > 1 else ''})"
            lines.append(
                (str(reason.nodes), Text(reason.text + (example if reason.example else "")))
            )
        for at, (count, text) in enumerate(lines):
            table.add_row(*(who if not at else [""] * len(who)), count, text)
    return table
