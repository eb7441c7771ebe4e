"""``tangram top``: the GPU nodes, the fullest first, as they change."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from extender.cli.asked import fail, read
from extender.cli.desk import Ask, Ca, DeskUrl, Kubeconfig, Token, Unanswered, Where, reached
from extender.cli.nodes import node_table, summary
from extender.explain.nodes import NodeRow, Roster
from extender.server.explained import NODES

LINES_BESIDES = 6
"""Of the terminal: heading, sum and the table's head."""


def top(
    interval: Annotated[
        float, typer.Option(min=0.5, max=3600.0, help="Seconds between two looks.")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once, and print that.")] = False,
    desk: DeskUrl = "",
    token: Token = "",
    ca: Ca = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Watch the GPU nodes, the fullest first, until Ctrl-C."""
    console = Console(highlight=False)
    once = once or not console.is_terminal
    work = _watch(Where(desk, token, ca, kubeconfig), console, interval, once=once)
    try:
        asyncio.run(work)
    except (Unanswered, TimeoutError) as error:
        fail("top", error)
    except KeyboardInterrupt:
        raise typer.Exit from None


async def _watch(where: Where, console: Console, interval: float, *, once: bool) -> None:
    async with reached(where) as ask:
        first = await _look(ask)
        if once:
            console.print(screen(first))
            return
        with Live(screen(first, console.height), console=console, auto_refresh=False) as live:
            last = first
            while True:
                await asyncio.sleep(interval)
                trouble = ""
                try:
                    last = await _look(ask)
                except (Unanswered, TimeoutError) as error:
                    trouble = str(error) or "no answer in time"
                live.update(screen(last, console.height, trouble), refresh=True)


async def _look(ask: Ask) -> Roster:
    return await read(ask, NODES, {}, Roster)


def screen(roster: Roster, height: int = 0, trouble: str = "") -> Group:
    """Return what is shown, no higher than *height* lines; 0 for as high as it is."""
    rows = sorted(roster.nodes, key=_fullest)
    shown = rows if not height else rows[: max(1, height - LINES_BESIDES)]
    head = Text.assemble(
        ("Tangram ", "bold"),
        f"{roster.pending} pods wait, {roster.refused} of them refused;"
        f" policy {roster.policy} ({roster.policy_version})",
        f"; {roster.leader} leads" if roster.leader else "",
    )
    parts: list[Text | Table] = [head, summary(roster.nodes), Text(), node_table(shown)]
    if len(shown) < len(rows):
        parts.append(Text(f"… and {len(rows) - len(shown)} more", style="dim"))
    if trouble:
        parts.append(Text(f"No answer at the last look: {trouble}", style="red"))
    return Group(*parts)


def _fullest(row: NodeRow) -> tuple[float, str]:
    return -(row.used / row.slices if row.slices else 0.0), row.name
