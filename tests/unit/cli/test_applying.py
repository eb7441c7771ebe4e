"""``tangram defrag apply``, ``status`` and ``stop``, and ``tangram drain NODE apply``."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog
from typer.testing import CliRunner, Result

from extender.cli.main import app
from extender.server import desk
from tests.builders import gpu
from tests.fakes.machines import Machines
from tests.fakes.world import World
from tests.unit.extender.moving.orders import NODES, kept, over, running


@pytest.fixture(autouse=True)
def _unheard(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The extender's own events are not the command's: here both are one process."""
    monkeypatch.setattr(sys.modules["extender.cli.main"], "log_to_stderr", lambda *_: None)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


async def run(*args: str, says: str = "") -> Result:
    """Run a command in a thread, while the desk answers here; *says* is typed at it."""
    plain = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    return await asyncio.to_thread(CliRunner(env=plain).invoke, app, list(args), says)


async def drained(*args: str, says: str = "", vm: str = "a") -> tuple[World, Result]:
    """Run a command while a VM runs on the first of two nodes, with everything it takes to move."""
    world = World()
    for name in NODES:
        await world.add_node(name, gpus=[gpu(uuid=f"GPU-of-{name}")])
    machines = Machines(world)
    async with running(world) as extender, desk(extender, reviewer=None) as url:
        await machines.place(extender, vm, "1-10C", "node-1")
        async with machines.running(extender, NODES):
            result = await run(*args, "--desk", url, says=says)
            if await kept(world) is not None:
                await over(world)
    return world, result


async def test_a_drain_is_shown_asked_about_and_applied() -> None:
    world, result = await drained("drain", "node-1", "apply", says="y\n")

    assert result.exit_code == 0, result.output
    words = " ".join(result.output.split())
    assert "To drain node-1: 1 move, in this order." in words
    assert "Have these moves made? [y/N]: y" in words
    assert "to drain node-1: under way, 0 of 1 moves made" in words
    order = await kept(world)
    assert order is not None
    assert len(order.made) == 1


async def test_whoever_says_no_has_nothing_moved() -> None:
    world, result = await drained("drain", "node-1", "apply", says="n\n")

    assert result.exit_code == 1
    assert await kept(world) is None


async def test_programs_wait_for_the_end_and_read_it() -> None:
    _, result = await drained(
        *("defrag", "apply", "--headroom", "2x7g.80gb", "--yes", "--wait", "-o", "json"), vm="b"
    )

    assert result.exit_code == 2, result.output  # two whole GPUs are not to be had
    said = json.loads(result.output)
    assert (said["plan"]["outcome"], said["order"]) == ("infeasible", None)

    _, result = await drained("drain", "node-1", "apply", "--yes", "--wait", "-o", "json")

    assert result.exit_code == 0, result.output
    said = json.loads(result.output)
    order = said["order"]
    assert (order["outcome"], order["over"], order["moves"][0]["stage"]) == ("done", True, "made")
    assert said["plan"]["warnings"] == [
        "node node-1 is not cordoned, and VMs may come to it: `kubectl cordon node-1`"
    ]


async def test_for_programs_nobody_is_asked() -> None:
    result = await run("drain", "b", "apply", "-o", "json", "--desk", "http://127.0.0.1:1")

    assert result.exit_code == 2
    assert "--yes" in result.output


async def test_the_last_order_is_told_of_and_there_may_be_none() -> None:
    _, result = await drained("defrag", "status")
    assert (result.exit_code, result.output.strip()) == (0, "No moves have been applied.")

    _, result = await drained("defrag", "stop")
    assert (result.exit_code, result.output.strip()) == (0, "No moves have been applied.")


async def test_what_the_policy_forbids_is_said_in_a_line() -> None:
    world = World()
    for name in NODES:
        await world.add_node(name, gpus=[gpu(uuid=f"GPU-of-{name}")])
    machines = Machines(world)
    async with world.extender() as extender, world.obedient(*NODES):
        await machines.place(extender, "a", "1-10C", "node-1")
        async with desk(extender, reviewer=None) as url:
            result = await run("drain", "node-1", "apply", "--yes", "--desk", url)

    assert result.exit_code == 1
    assert "moves.mode is not apply: no move is begun" in result.output
