"""Two extenders behind one address: the leader is killed, stopped, sent away in mid-wave."""

from __future__ import annotations

import asyncio
import signal
from datetime import datetime
from pathlib import Path

import pytest

from tests.e2e.stack import Stack, artifacts, stack
from tests.e2e.test_placement import bound, demand, judged
from tests.waiting import until


async def succeeded(running: Stack, predecessor: str) -> str:
    """Wait until another than *predecessor* leads, and return its pod."""
    (other,) = running.extenders.keys() - {predecessor}

    async def leads() -> bool:
        return await running.leader() == other

    await until(leads, within=60, every=0.1)
    return other


def gap_seconds(running: Stack, left_at: datetime, successor: str) -> float:
    """Return how long nobody answered, by the machine's clock."""
    began = [
        datetime.fromisoformat(event["timestamp"])
        for event in running.extenders[successor].events("leading")
    ]
    return min((at - left_at).total_seconds() for at in began if at > left_at)


@pytest.mark.parametrize(
    ("number", "at_least", "at_most"),
    [
        # The Lease of 8 s in the test was renewed up to 1.2 s before: that long it is waited out,
        # unless it has been released. How fast a busy machine then is, is not for a test to say.
        pytest.param(signal.SIGKILL, 6.0, 60.0, id="killed"),
        pytest.param(signal.SIGTERM, 0.0, 6.0, id="sent away"),
    ],
)
async def test_a_leader_gone_in_mid_wave_is_replaced_and_nothing_is_lost_or_doubled(
    tmp_path: Path, number: int, at_least: float, at_most: float
) -> None:
    wave = demand(90, 5, prefix="vm")
    async with stack(artifacts(tmp_path), nodes=6, replicas=2) as running:
        leader = await running.leader()
        creating = asyncio.create_task(running.create_vms(wave))
        gaps = []
        for already in (5, 45):
            await running.bound_pods(at_least=already)
            left_at = datetime.now().astimezone()
            await running.extenders[leader].stop(number)
            successor = await succeeded(running, leader)
            gaps.append(gap_seconds(running, left_at, successor))
            await running.extenders[leader].start()
            leader = successor
        await creating
        await running.bound_pods(at_least=len(wave))
        _, pods = await judged(running)
        print("nobody led for", [round(gap, 2) for gap in gaps], "s")

    assert bound(pods) == set(wave)
    assert all(at_least <= gap <= at_most for gap in gaps), gaps


async def test_a_leader_that_was_frozen_finds_itself_deposed(tmp_path: Path) -> None:
    wave = demand(40, 6, prefix="vm")
    async with stack(artifacts(tmp_path), nodes=3, replicas=2) as running:
        leader = await running.leader()
        creating = asyncio.create_task(running.create_vms(wave))
        await running.bound_pods(at_least=5)
        running.extenders[leader].signal(signal.SIGSTOP)
        await succeeded(running, leader)
        running.extenders[leader].signal(signal.SIGCONT)
        await creating
        await running.bound_pods(at_least=len(wave))
        _, pods = await judged(running)
        lost = running.extenders[leader].events("lead_lost")

    assert bound(pods) == set(wave)
    assert len(lost) == 1
