"""``tangram defrag plan`` and ``tangram drain NODE plan``: what people and programs read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from typer.testing import CliRunner, Result

from extender.advice.document import Obstacle, Who
from extender.cli.advised import obstacle
from extender.cli.main import app
from extender.cluster import KubernetesCluster
from extender.explain.explanation import Spot
from extender.server import desk
from extender.service import Service
from extender.service.ports import Feed, PodFacts
from nodeagent.apiserver.memory import InMemoryApi
from tests.advised import NOW
from tests.builders import request
from tests.explained import Small, Vm

SMALL = Small.of(
    [
        Vm("big", 5, "a", 0, 0),
        Vm("x", 19, "a", 0, 4),
        Vm("w", 5, "b", 0, 0),
        Vm("v", 14, "b", 0, 4, movable=False),
    ],
    a=1,
    b=1,
)


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """The desk of an extender that knows two nodes, and a pod for which one VM has to move."""
    made = Service(KubernetesCluster(InMemoryApi()), utc_now=lambda: NOW)
    for feed in Feed:
        made.knowledge.feed_synced(feed)
    for name, there in SMALL.views.items():
        made.knowledge.node(name, cordoned=False)
        made.knowledge.lease(name, "1")
        made.knowledge.gpu_node(there.node)
    for vm in SMALL.vms.values():
        asked = request("1-10C", pod=vm.name)
        made.knowledge.pod(PodFacts(asked.pod, asked, vm.node, "Running", movable=vm.movable))
    asked = request("3-40C", pod="me")
    made.knowledge.pod(PodFacts(asked.pod, asked))
    made.knowledge.pending.filtered(asked, SMALL.views)
    async with desk(made, reviewer=None) as url:
        yield url


async def run(*args: str) -> Result:
    """Run a command in a thread, while the desk answers here."""
    plain = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    return await asyncio.to_thread(CliRunner(env=plain).invoke, app, list(args))


async def test_a_plan_says_what_moves_where_and_draws_the_slices(url: str) -> None:
    result = await run("defrag", "plan", "--admit", "default/name-me", "--desk", url)

    assert result.exit_code == 0, result.output
    words = " ".join(result.output.split())
    assert "To admit default/name-me: 1 move, in this order." in words
    assert "1 default/x 1g.10gb a GPU 0 slice 4 b GPU 0 slice 6 eviction" in words
    assert "2 then default/name-me (3g.40gb) on a GPU 0 slices 4-7" in words
    assert "a GPU 0 ▪━━━1··· → ▪━━━2━━━" in words
    assert "b GPU 0 ▪━━━▪━·· → ▪━━━▪━1·" in words
    assert "1 costs 12: 10 for each of 1 memory slice, 2 for 24 hours there" in words
    assert "; if it stayed, no plan would do" in words
    assert "It costs 12 by the policy's moves.costs; no plan is better." in words
    assert "Disruption budgets were not looked up" in words
    assert words.endswith("Nothing was moved.")


async def test_programs_read_the_same(url: str) -> None:
    result = await run("defrag", "plan", "--admit", "default/name-me", "-o", "json", "--desk", url)
    said = json.loads(result.output)

    assert (said["outcome"], said["optimal"], said["leastMoves"]) == ("plan", True, 1)
    (move,) = said["moves"]
    assert (move["vm"]["name"], move["target"]["node"], move["how"]) == ("x", "b", "eviction")


async def test_what_fits_already_says_that_nothing_has_to_move(url: str) -> None:
    result = await run("defrag", "plan", "--headroom", "1x1g.20gb", "--desk", url)

    assert result.exit_code == 0, result.output
    assert "Nothing has to move: there is room as it is." in result.output


async def test_a_drain_that_cannot_be_names_what_holds_the_node(url: str) -> None:
    result = await run("drain", "b", "plan", "--desk", url)

    assert result.exit_code == 2
    words = " ".join(result.output.split())
    assert "To drain b: No moves attain that." in words
    assert (
        "default/v on b GPU 0 slices 4-5 cannot go: of a VM with tangram.dev/movable: false,"
        " or with a value that is not known."
    ) in words


def test_what_is_answered_to_an_eviction_is_told_and_moves_no_cursor() -> None:
    vm, on = Who("default", "VirtualMachineInstance", "v"), Spot("b", 0, "GPU-0", 4, 2)

    told = obstacle(Obstacle("its eviction is refused", vm, on, answer="no\x1b[2J"))

    assert told == (
        "default/v on b GPU 0 slices 4-5 cannot go: its eviction is refused (no\ufffd[2J)."
    )


async def test_a_drain_as_far_as_possible_says_how_many_stay_and_names_them(url: str) -> None:
    whole = await run("drain", "a", "plan", "--desk", url)
    result = await run("drain", "a", "plan", "--as-far-as-possible", "--desk", url)

    assert (whole.exit_code, result.exit_code) == (2, 0), result.output
    words = " ".join(result.output.split())
    assert "To drain a as far as possible: 1 move, in this order; 1 of 2 stay." in words
    assert "1 default/x 1g.10gb a GPU 0 slice 4 b GPU 0 slice 6 eviction" in words
    assert "no room" in words.lower()


async def test_goals_that_cannot_be_read_are_refused_before_anybody_is_asked() -> None:
    for args, says in (
        (["defrag", "plan"], "no goal is given"),
        (["defrag", "plan", "--headroom", "many"], "COUNTxPROFILE"),
    ):
        result = await run(*args, "--desk", "http://127.0.0.1:1")
        assert result.exit_code == 2
        assert says in result.output


async def test_a_drain_is_planned_or_applied_and_nothing_else(url: str) -> None:
    result = await run("drain", "b", "cancel", "--desk", url)

    assert result.exit_code == 2
    assert "plan" in result.output
