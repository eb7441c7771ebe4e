"""Moves under a real kube-scheduler and the real controllers of budgets and of what is moved."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from extender.moving import Outcome
from nodeagent.api import keys
from nodeagent.apiserver.protocol import EVENTS, POD_DISRUPTION_BUDGETS, PODS, PatchType
from tests.e2e import mortal
from tests.e2e.desk import ALICE
from tests.e2e.moves import (
    APPLY,
    ONE,
    PAUSED,
    SLOW,
    THREE,
    create,
    fragmented,
    given,
    guard,
    moving,
    on,
    order,
    over,
    policy_of,
    sound,
    tangram,
    uids,
)
from tests.e2e.stack import Stack, artifacts
from tests.waiting import until


async def test_a_pending_vm_is_admitted_by_an_applied_plan_unless_a_budget_blocks_it(
    tmp_path: Path,
) -> None:
    async with moving(artifacts(tmp_path)) as running:
        await fragmented(running)
        await guard(running, "tight", "small", "half", min_available=2)
        await running.quiet()
        before = await uids(running)
        admit = ("--admit", "default/whole-0", "--yes", "--wait")

        status, said = await tangram(running, "defrag", "apply", *admit)
        assert (status, said["plan"]["outcome"]) == (2, "infeasible")
        assert await order(running) is None
        assert await uids(running) == before

        loosened = {"spec": {"minAvailable": 0}}
        await running.api.patch(
            POD_DISRUPTION_BUDGETS,
            "tight",
            loosened,
            patch_type=PatchType.MERGE,
            namespace="default",
        )

        async def may() -> bool:
            nonlocal status, said
            status, said = await tangram(running, "defrag", "apply", *admit)
            return status == 0

        await until(may, within=120, every=1.0)
        assert said["order"]["outcome"] == "done"
        await running.bound_pods(at_least=3)
        await sound(running)
        after = await uids(running)
        assert await on(running, "small") == await on(running, "half")
        assert await on(running, "whole") not in ("", await on(running, "half"))
        assert {name for name in before if before[name] != after[name]} == {"small"}
        told = {each["reason"]: each for each in await running.listed(EVENTS, "default")}
        assert {"VgpuPlaceHeld", "VgpuMoving", "VgpuMoved"} <= told.keys()
        assert told["VgpuPlaceHeld"]["involvedObject"]["name"] == "small-0"
        for reason, what in (("VgpuMovesOrdered", "is given"), ("VgpuMovesEnded", "is done")):
            about, said = told[reason]["involvedObject"], told[reason]["message"]
            assert (about["kind"], what in said, ALICE in said) == ("Node", True, True)


async def test_a_drain_goes_on_after_kills_and_a_pause_keeps_to_budgets_and_says_what_holds_a_node(
    tmp_path: Path,
) -> None:
    """Of two that share a budget, the second goes only once the first is up again."""
    directory = artifacts(tmp_path)
    async with moving(directory) as running:
        names = [f"vm-{at}" for at in range(4)]
        for name in names:
            await create(running, name, ONE)
        await running.bound_pods(at_least=len(names))
        nodes = {await on(running, name) for name in names}
        assert len(nodes) == 1  # they are packed
        (drained,) = nodes
        await guard(running, "pair", *names[:2], min_available=1)
        await running.quiet()
        before = await uids(running)

        # One move an hour: however long the command takes, the order is not over before the kill.
        policy_of(directory).write_text(SLOW)
        await until(lambda: bool(running.extender.events("policy_adopted")), within=60)
        status, said = await tangram(running, "drain", drained, "apply", "--yes")
        assert (status, said["order"]["over"]) == (0, False)
        first = await order(running)
        assert first is not None
        await running.extender.stop(signal.SIGKILL)
        policy_of(directory).write_text(PAUSED)
        await running.extender.start()
        await running.ready()

        async def waits() -> bool:
            nonlocal said
            _, said = await tangram(running, "defrag", "status")
            return bool(said["waiting"])

        await until(waits, within=60, every=0.5)
        assert said["waiting"] == "the policy's moves.paused is true"
        await running.quiet()
        paused = await order(running)
        assert paused is not None
        assert (paused.ending, len(paused.made) <= 1) == (None, True)
        policy_of(directory).write_text(APPLY)
        await begun(running, made=2)
        await running.extender.stop(signal.SIGKILL)
        await running.extender.start()
        ended = await over(running)
        await sound(running)
        after = await uids(running)

        assert (ended.ending, len(ended.made)) == (Outcome.DONE, len(names)), ended.why
        assert all(before[name] != after[name] for name in names)
        assert {await on(running, name) for name in names} == {first.legs[0].target.node}
        assert first.legs[0].target.node != drained

        there = first.legs[0].target.node
        refusing = {"metadata": {"annotations": {keys.MOVABLE: "false"}}}
        await running.api.patch(
            PODS, "vm-0-0", refusing, patch_type=PatchType.MERGE, namespace="default"
        )

        async def holds() -> bool:
            nonlocal status, said
            status, said = await tangram(running, "drain", there, "plan")
            return status == 2

        await until(holds, within=60, every=1.0)
        (held,) = [each for each in said["obstacles"] if each.get("on")]
        assert "tangram.dev/movable: false" in held["why"]


async def begun(running: Stack, *, made: int) -> None:
    """Wait until so many moves are made, or more, and another is under way."""

    async def there() -> bool:
        now = await order(running)
        return now is not None and (
            now.over or (len(now.made) >= made and now.departed is not None)
        )

    await until(there, within=240, every=0.02)


STEPS = {
    "create configmaps",
    "patch configmaps",
    "patch gpunodes",
    "create pods eviction",
    "create pods binding",
}


async def test_killed_before_and_after_each_write_it_moves_a_vm_once_and_keeps_every_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another VM waits for any of the slices that are held, or have just been left."""
    directory = artifacts(tmp_path)
    monkeypatch.setenv(mortal.DIRECTORY, str(directory))
    async with moving(directory, program="tests.e2e.mortal") as running:
        await fragmented(running)
        await running.quiet()
        before = await uids(running)
        mortal.armed(directory).touch()
        async with reborn(running) as seen:
            await given(running, "defrag", "apply", "--admit", "default/whole-0", "--yes")

            await begun(running, made=0)
            await create(running, "rival", THREE)
            ended = await over(running, within=480)
            mortal.armed(directory).unlink()
            await running.bound_pods(at_least=3)
            await sound(running)
        after, pods = await uids(running), await running.pods()
        deaths = mortal.deaths(directory)

        assert (ended.ending, ended.why) == (Outcome.DONE, ""), deaths
        at = {f"{when} {what}" for when in (mortal.BEFORE, mortal.AFTER) for what in STEPS}
        assert set(deaths) == at
        assert await on(running, "small") == await on(running, "half")
        assert await on(running, "whole") not in ("", await on(running, "half"))
        assert "nodeName" not in pods["rival"]["spec"]
        lives = {each["small"] for each in (before, *seen, after) if "small" in each}
        assert len(lives) == 2, "it was moved once"
        assert {before[name] == after[name] for name in ("half", "whole")} == {True}


@contextlib.asynccontextmanager
async def reborn(running: Stack) -> AsyncIterator[list[Mapping[str, str]]]:
    """Start the extender again wherever it dies; yield the pods' UIDs as they were each time."""
    seen: list[Mapping[str, str]] = []

    async def run() -> None:
        while True:
            await running.extender.ended()
            seen.append(await uids(running))
            await running.extender.start()

    async with asyncio.TaskGroup() as tasks:
        work = tasks.create_task(run())
        try:
            yield seen
        finally:
            work.cancel()
