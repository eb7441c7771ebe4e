"""A real kube-scheduler places VMs on simulated GPUs, end to end."""

from __future__ import annotations

import asyncio
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from extender.simulation.mixes import mix
from nodeagent.api.gpunode import GpuNode
from nodeagent.apiserver.protocol import PODS
from tests.e2e.judge import violations
from tests.e2e.room import missed
from tests.e2e.stack import MODEL, RESOURCES, Stack, artifacts, stack
from tests.waiting import until

MIX = mix("mid", MODEL.geometry, frozenset(RESOURCES))


def demand(count: int, seed: int, *, prefix: str) -> dict[str, int]:
    chance = random.Random(seed)
    profiles = chance.choices(list(MIX), list(MIX.values()), k=count)
    return {f"{prefix}-{index:03}": profile for index, profile in enumerate(profiles)}


async def judged(running: Stack) -> tuple[list[GpuNode], dict[str, dict[str, Any]]]:
    """Wait for quiet, and demand that everything is as it must be.

    A pod whose bind failed comes back after up to 10 seconds: until then nothing is settled.
    """

    async def settled() -> bool:
        return not list(missed(await running.gpu_nodes(), await running.pods()))

    await running.quiet()
    await until(settled, within=60, every=0.5)
    await running.quiet()
    nodes, pods = await running.gpu_nodes(), await running.pods()
    assert list(violations(nodes, pods)) == []
    assert list(missed(nodes, pods)) == []
    return nodes, pods


def bound(pods: dict[str, dict[str, Any]]) -> set[str]:
    return {name for name, pod in pods.items() if pod["spec"].get("nodeName")}


def pending_reason(pod: dict[str, Any]) -> str:
    conditions = {c["type"]: c for c in pod["status"].get("conditions", ())}
    return str(conditions["PodScheduled"]["message"])


async def delete(running: Stack, pods: dict[str, dict[str, Any]], names: set[str]) -> None:
    for name in sorted(names):
        pod = pods[name]["metadata"]["name"]
        await running.api.delete(PODS, pod, namespace="default")


async def test_three_hundred_vms_in_two_waves_with_deletions_between(tmp_path: Path) -> None:
    first = demand(210, 1, prefix="first")
    second = demand(90, 2, prefix="second")
    # 20 nodes x 8 GPUs hold 1,280 slices; the whole-GPU VMs of a third wave find no room at all.
    crowd = {f"crowd-{index:03}": 0 for index in range(140)}
    async with stack(artifacts(tmp_path), nodes=20) as running:
        await running.create_vms(first)
        _, pods = await judged(running)
        assert bound(pods) == set(first)

        leaving = set(random.Random(3).sample(sorted(first), 70))
        await delete(running, pods, leaving)
        await running.create_vms(second)
        _, pods = await judged(running)
        assert bound(pods) == (set(first) - leaving) | set(second)

        await running.create_vms(crowd)
        _, pods = await judged(running)
        refused = set(crowd) - bound(pods)
        assert refused
        for name in refused:
            assert f"vGPU: no free placement for {RESOURCES[0]}" in pending_reason(pods[name])
        assert await running.largest_gpu_node() <= 40_000

        before = running.filter_calls()
        await asyncio.sleep(30)
        quiet = running.filter_calls() - before
        assert max(quiet.values(), default=0) <= 1  # 3 a minute would be 1.5 in this time

        freed = {name for name in bound(pods) if first.get(name) == 0 or second.get(name) == 0}
        assert freed
        await delete(running, pods, freed)
        _, pods = await judged(running)
        assert len(set(crowd) - bound(pods)) == len(refused) - len(freed)


async def test_a_pod_that_asks_nothing_of_ours_is_scheduled_without_a_call(
    tmp_path: Path,
) -> None:
    async with stack(artifacts(tmp_path), nodes=1, gpus=1) as running:
        plain = {
            "metadata": {"name": "plain"},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "c", "image": "none"}],
            },
        }
        await running.api.create(PODS, plain, namespace="default")
        await until(lambda: running.bound("plain"), within=20, every=0.1)
        await running.create_vms({"ours": 19})
        await running.bound_pods(at_least=1)

        asked_for = set(running.filter_calls())
        assert len(asked_for) == 1
        assert asked_for.pop().startswith("virt-launcher-ours-")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_an_extender_restarted_in_mid_wave_loses_and_doubles_nothing(
    tmp_path: Path, number: int
) -> None:
    wave = demand(90, 4, prefix="vm")
    async with stack(artifacts(tmp_path), nodes=6) as running:
        creating = asyncio.create_task(running.create_vms(wave))
        for already in (5, 30, 60):
            await running.bound_pods(at_least=already)
            await running.extender.stop(number)
            await running.extender.start()
        await creating
        # Whoever met a dead extender comes back by time alone, 10 s later at the most.
        await running.bound_pods(at_least=len(wave))
        _, pods = await judged(running)

    assert bound(pods) == set(wave)


async def test_a_realisation_slower_than_the_schedulers_timeout_ends_in_one_bound_pod(
    tmp_path: Path,
) -> None:
    async with stack(
        artifacts(tmp_path), nodes=2, gpus=1, http_timeout=5.0, create_latency=7.0
    ) as running:
        await running.create_vms({"slow": 9})
        await running.bound_pods(at_least=1)
        nodes, pods = await judged(running)

    assert bound(pods) == {"slow"}
    assert [len(node.spec.assignments) for node in nodes if node.spec.assignments] == [1]
    failures = running.extender.events("bind_failed")
    assert any("not ready yet" in event["reason"] for event in failures)
