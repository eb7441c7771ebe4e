"""Sixteen VMs come at once where there is room for one, on a real control plane."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.e2e.judge import violations
from tests.e2e.room import missed
from tests.e2e.stack import RESOURCES, Stack, artifacts, stack
from tests.e2e.test_failover import succeeded
from tests.e2e.test_placement import bound, delete, pending_reason
from tests.waiting import until

RACERS = 16
WHOLE, FOUR, TWO, ONE = 0, 5, 14, 19
THERE_BEFORE = (WHOLE, WHOLE, WHOLE, FOUR, TWO)
"""What four GPUs hold, so that there is room for one slice more: kube-scheduler sees 28 slots."""

NO_ROOM = f"vGPU: no free placement for {RESOURCES[ONE]}"

Trouble = Callable[[Stack, str], Awaitable[None]]


async def calm(running: Stack, leader: str) -> None:
    """Let nothing happen to the leader."""


async def kill(running: Stack, leader: str) -> None:
    """Kill the leader between the plan's write and the Binding, and start it when replaced."""
    await running.extenders[leader].stop(signal.SIGKILL)
    await succeeded(running, leader)
    await running.extenders[leader].start()


async def freeze(running: Stack, leader: str) -> None:
    """Stop the leader there, and let it go on with its binds when it is replaced."""
    running.extenders[leader].signal(signal.SIGSTOP)
    await succeeded(running, leader)
    running.extenders[leader].signal(signal.SIGCONT)


async def race(running: Stack, name: str, trouble: Trouble) -> str:
    """Let them race, with *trouble* as soon as one of them is planned; return who won."""
    racers = {f"{name}-{index:02}": ONE for index in range(RACERS)}

    async def planned() -> bool:
        entries = sum(len(node.spec.assignments) for node in await running.gpu_nodes())
        return entries == len(THERE_BEFORE) + 1

    async def decided() -> bool:
        pods = await running.pods()
        pending = racers.keys() - bound(pods)
        return len(pending) == RACERS - 1 and all(
            NO_ROOM in str(pods[each]["status"]) for each in pending
        )

    leader = await running.leader()
    await running.create_vms(racers)
    await until(planned, within=60, every=0.02)
    await trouble(running, leader)
    await until(decided, within=120, every=0.2)
    await running.quiet()
    nodes, pods = await running.gpu_nodes(), await running.pods()
    (winner,) = bound(pods) & racers.keys()
    assert list(violations(nodes, pods)) == []
    assert list(missed(nodes, pods)) == []
    assert {pending_reason(pods[each]).count(NO_ROOM) for each in racers.keys() - {winner}} == {1}

    async def left() -> bool:
        return len(await running.pods()) == len(THERE_BEFORE) and not await planned()

    await delete(running, pods, set(racers))
    await until(left, within=60, every=0.1)
    return winner


async def test_of_sixteen_vms_for_one_last_slice_one_wins_whatever_becomes_of_the_leader(
    tmp_path: Path,
) -> None:
    # An instance takes its time: there is some between the plan's write and the Binding.
    async with stack(
        artifacts(tmp_path), nodes=2, gpus=2, replicas=2, create_latency=1.0
    ) as running:
        for index, profile in enumerate(THERE_BEFORE):
            await running.create_vms({f"there-{index}": profile})
            await running.bound_pods(at_least=index + 1)
        rounds = {"first": calm, "second": calm, "killed": kill, "frozen": freeze}
        winners = [await race(running, name, trouble) for name, trouble in rounds.items()]

    print("won:", winners)
