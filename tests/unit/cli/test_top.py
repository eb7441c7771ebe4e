"""``tangram top`` in a terminal: it looks again and again, and outlives a desk that is away."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from extender.cli.desk import Query, Unanswered
from extender.cli.top import LINES_BESIDES, screen, watch
from extender.explain.nodes import NodeRow, Roster
from extender.server.explained import NODES


class Over(Exception):
    """The watcher has seen enough."""


def roster(pending: int = 0, **used: int) -> Roster:
    rows = tuple(
        NodeRow(name, "", "ready", "", "1 x H100", 8, taken, 0, taken, {"1g.10gb": 8 - taken})
        for name, taken in used.items()
    )
    return Roster("default", "v1", pending, 0, "", rows)


class Desk:
    """Answers, or fails, as it is told to: one thing after the other."""

    def __init__(self, *answers: Roster | Exception) -> None:
        self.left = list(answers)

    async def ask(
        self, path: str, query: Query, *, method: str = "GET", body: bytes | None = None
    ) -> bytes:
        assert (path, query) == (NODES, {})
        told = self.left.pop(0)
        if isinstance(told, Exception):
            raise told
        return msgspec.json.encode(told)


async def watched(desk: Desk, height: int = 40) -> list[str]:
    """Return what is new on the screen after each look."""
    written = io.StringIO()
    console = Console(
        file=written, force_terminal=True, width=120, height=height, color_system=None
    )
    screens: list[str] = []

    async def pause() -> None:
        screens.append(written.getvalue())
        written.seek(0)
        written.truncate()
        if not desk.left:
            raise Over

    with pytest.raises(Over):
        await watch(desk.ask, console, pause)
    return screens


async def test_each_look_is_shown_the_fullest_node_first() -> None:
    first, second = await watched(Desk(roster(1, a=2, b=5), roster(3, a=7, b=5)))

    assert "1 pod waits" in first
    assert first.index(" b ") < first.index(" a ")
    assert "3 pods wait" in second
    assert second.index(" a ") < second.index(" b ")


async def test_what_was_seen_last_stays_while_nobody_answers_and_the_trouble_is_told() -> None:
    desk = Desk(roster(1, a=2), Unanswered("the desk is away"), TimeoutError(), roster(2, a=3))

    _, refused, late, back = await watched(desk)

    assert "2/8" in refused
    assert "No answer at the last look: the desk is away" in refused
    assert "No answer at the last look: no answer in time" in late
    assert "3/8" in back
    assert "No answer" not in back


async def test_a_first_look_that_fails_is_no_screen() -> None:
    with pytest.raises(Unanswered, match="away"):
        await watch(Desk(Unanswered("away")).ask, Console(file=io.StringIO()), _never)


async def _never() -> None:
    raise AssertionError("there is nothing to watch")


@pytest.mark.parametrize("height", [10, 24])
def test_a_screen_is_no_higher_than_the_terminal(height: int) -> None:
    many = roster(**{f"node-{at}": at % 9 for at in range(100)})
    console = Console(file=io.StringIO(), width=160, height=height, record=True)

    console.print(screen(many, height))

    lines = console.export_text().splitlines()
    assert len(lines) <= height
    assert f"and {100 - (height - LINES_BESIDES)} more" in lines[-1]
