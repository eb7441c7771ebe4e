"""``tangram top``: the GPU nodes, the fullest first, as they change."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from extender.cli.asked import answer, fail, read
from extender.cli.desk import Ask, Ca, DeskUrl, Kubeconfig, Token, Unanswered, Where, reached
from extender.cli.nodes import node_table, summary
from extender.cli.output import Output, print_as
from extender.explain.nodes import NodeRow, Roster
from extender.server.explained import NODES

LINES_BESIDES = 6
"""Of the terminal: heading, sum and the table's head."""


def top(
    interval: Annotated[
        float, typer.Option(min=0.5, max=3600.0, help="Seconds between two looks.")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once, and print that.")] = False,
    output: Annotated[
        Output, typer.Option("--output", "-o", help="How to print it; json and yaml look once.")
    ] = Output.TEXT,
    desk: DeskUrl = "",
    token: Token = "",
    ca: Ca = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Watch the GPU nodes, the fullest first, until Ctrl-C."""
    where = Where(desk, token, ca, kubeconfig)
    console = Console(highlight=False)
    if output is not Output.TEXT:
        found = answer("top", where, NODES, {}, Roster)
        print_as(output, msgspec.structs.replace(found, nodes=tuple(fullest_first(found))))
        return
    if once or not console.is_terminal:
        console.print(screen(answer("top", where, NODES, {}, Roster)))
        return

    async def watched() -> None:
        async with reached(where) as ask:
            await watch(ask, console, lambda: asyncio.sleep(interval))

    try:
        asyncio.run(watched())
    except (Unanswered, TimeoutError) as error:
        fail("top", error)
    except KeyboardInterrupt:
        raise typer.Exit from None


async def watch(ask: Ask, console: Console, pause: Callable[[], Awaitable[None]]) -> None:
    """Show what is answered, and anew after each pause; what goes wrong later is shown as well.

    Raises:
        Unanswered, TimeoutError: the first look fails.
    """
    last = await read(ask, NODES, {}, Roster)
    with Live(screen(last, console.height), console=console, auto_refresh=False) as live:
        while True:
            await pause()
            trouble = ""
            try:
                last = await read(ask, NODES, {}, Roster)
            except (Unanswered, TimeoutError) as error:
                trouble = str(error) or "no answer in time"
            live.update(screen(last, console.height, trouble), refresh=True)


def screen(roster: Roster, height: int = 0, trouble: str = "") -> Group:
    """Return what is shown, no higher than *height* lines; 0 for as high as it is."""
    rows = fullest_first(roster)
    shown = rows if not height else rows[: max(1, height - LINES_BESIDES)]
    head = Text.assemble(
        ("Tangram ", "bold"),
        f"{_pods(roster.pending)}, {roster.refused} of them refused;"
        f" policy {roster.policy} ({roster.policy_version})",
        f"; {roster.leader} leads" if roster.leader else "",
    )
    parts: list[Text | Table] = [head, summary(roster.nodes), Text(), node_table(shown)]
    if len(shown) < len(rows):
        parts.append(Text(f"… and {len(rows) - len(shown)} more", style="dim"))
    if trouble:
        parts.append(Text(f"No answer at the last look: {trouble}", style="red"))
    return Group(*parts)


def _pods(waiting: int) -> str:
    return f"{waiting} pod waits" if waiting == 1 else f"{waiting} pods wait"


def fullest_first(roster: Roster) -> list[NodeRow]:
    """Return the nodes, those of which most is used first."""
    return sorted(
        roster.nodes, key=lambda row: (-row.used / row.slices if row.slices else 0.0, row.name)
    )
