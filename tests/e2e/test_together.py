"""Pods placed together by a real kube-scheduler: bursts, gangs, several vGPUs in one pod."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from extender.demo.pods import launcher
from nodeagent.api import keys
from nodeagent.apiserver.protocol import PODS
from tests.e2e.judge import violations
from tests.e2e.stack import MODEL, RESOURCES, Stack, artifacts, stack
from tests.e2e.test_placement import bound, delete, demand, judged
from tests.waiting import until

FOUR, THREE, TWO, ONE, WHOLE = 5, 9, 14, 19, 0


async def create(running: Stack, name: str, *profiles: int, gang: str = "", size: int = 0) -> None:
    """Create a launcher pod that asks for a vGPU of each profile."""
    pod = launcher(name, "default", RESOURCES[profiles[0]])
    amounts = {RESOURCES[each]: str(profiles.count(each)) for each in profiles}
    pod["spec"]["containers"][0]["resources"] = {"requests": amounts, "limits": amounts}
    if gang:
        pod["metadata"]["annotations"] |= {keys.GANG: gang, keys.GANG_SIZE: str(size)}
    await running.api.create(PODS, pod, namespace="default")


async def create_gang(running: Stack, name: str, *profiles: int) -> set[str]:
    members = {f"{name}-{at}": profile for at, profile in enumerate(profiles)}
    for member, profile in members.items():
        await create(running, member, profile, gang=name, size=len(profiles))
    return set(members)


def slices(names: Mapping[str, int], those: set[str]) -> int:
    return sum(MODEL.geometry.by_id[names[name]].size for name in those)


async def test_of_a_burst_of_sixty_mixed_vms_many_are_placed_as_one_problem(tmp_path: Path) -> None:
    burst = demand(60, 7, prefix="vm")
    async with stack(artifacts(tmp_path), nodes=4, gpus=4) as running:
        await running.create_vms(burst)
        await until(lambda: running.extender.events("queue_planned"), within=30, every=0.1)
        _, pods = await judged(running)
        plans = running.extender.events("queue_planned")

    # What comes before a burst can be told from single pods is placed by itself, and how many have
    # come when the plan is made is the machine's affair.
    assert max(plan["pods"] for plan in plans) >= 16
    admitted = bound(pods)
    print("bound", len(admitted), "slices", slices(burst, admitted), "of", 4 * 4 * 8, plans[:3])
    assert slices(burst, admitted) >= 0.9 * 4 * 4 * 8


async def test_a_gang_is_bound_whole_or_not_at_all_and_a_pod_may_have_several_vgpus(
    tmp_path: Path,
) -> None:
    async with stack(artifacts(tmp_path), nodes=2, gpus=1) as running:
        # Three fit; the fourth would need a whole GPU more.
        large = await create_gang(running, "large", FOUR, THREE, THREE, WHOLE)

        async def refused() -> bool:
            pods = await running.pods()
            return len(pods) == 4 and all(
                "no free placement for the whole gang" in str(pod["status"])
                for pod in pods.values()
            )

        await until(refused, within=60, every=0.2)
        await running.quiet()
        assert bound(await running.pods()) == set()
        assert not any(node.spec.assignments for node in await running.gpu_nodes())
        before = sum(running.filter_calls().values())
        await asyncio.sleep(5)
        assert sum(running.filter_calls().values()) - before <= 8  # no hot loop

        small = await create_gang(running, "small", FOUR, THREE, TWO, ONE)
        await running.bound_pods(at_least=4)
        await running.quiet()
        nodes, pods = await running.gpu_nodes(), await running.pods()
        assert bound(pods) == small
        assert list(violations(nodes, pods)) == []

        await delete(running, pods, large | small)
        await create(running, "several", THREE, TWO, ONE, ONE)
        await running.bound_pods(at_least=1)
        _, pods = await judged(running)
        assert bound(pods) == {"several"}
