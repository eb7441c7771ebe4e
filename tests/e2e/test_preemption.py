"""VMs of high priority under a real kube-scheduler: who is evicted for them, and nobody more."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from extender.demo.pods import launcher
from nodeagent.apiserver.protocol import (
    EVENTS,
    POD_DISRUPTION_BUDGETS,
    PODS,
    Invalid,
    Kind,
    PatchType,
)
from tests.e2e.judge import violations
from tests.e2e.stack import RESOURCES, Stack, artifacts, stack
from tests.e2e.test_placement import bound, pending_reason
from tests.waiting import until

_ADMISSION = "admissionregistration.k8s.io"
POLICIES = Kind(_ADMISSION, "v1", "validatingadmissionpolicies", namespaced=False)
POLICY_BINDINGS = Kind(_ADMISSION, "v1", "validatingadmissionpolicybindings", namespaced=False)
PRIORITY_CLASSES = Kind("scheduling.k8s.io", "v1", "priorityclasses", namespaced=False)
THREE, ONE, WHOLE = 9, 19, 0
SETTLES_SECONDS = 5.0


async def classes(running: Stack, **values: int) -> None:
    """Create priority classes."""
    for name, value in values.items():
        await running.api.create(PRIORITY_CLASSES, {"metadata": {"name": name}, "value": value})


async def create(
    running: Stack, name: str, profile: int, priority: str = "low", *, cpu: int = 0
) -> None:
    """Create a VM's pod of a priority class."""
    pod = launcher(name, "default", RESOURCES[profile])
    pod["spec"]["priorityClassName"] = priority
    if cpu:
        pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = str(cpu)
    await running.api.create(PODS, pod, namespace="default")


async def busy(running: Stack, node: str, priority: str) -> None:
    """Let a pod that asks for no GPU have most of a node's CPU."""
    requests = {"requests": {"cpu": "100"}}
    spec = {
        "nodeName": node,
        "priorityClassName": priority,
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "busy", "image": "none", "resources": requests}],
    }
    body = {"metadata": {"name": f"busy-{node}"}, "spec": spec}
    await running.api.create(PODS, body, namespace="default")


async def settled(running: Stack) -> dict[str, dict[str, Any]]:
    """Wait for quiet, demand that plans and pods agree, and return the pods."""
    await running.quiet()
    nodes, pods = await running.gpu_nodes(), await running.pods()
    assert list(violations(nodes, pods)) == []
    return pods


def evicted(running: Stack) -> list[str]:
    """Return who was evicted, by the name of the VM."""
    names = (str(each["pod"]) for each in running.extender.events("pod_evicted"))
    return [name.removeprefix("virt-launcher-").rpartition("-")[0] for name in names]


def filtered(running: Stack, vm: str) -> int:
    """Return how often kube-scheduler has asked about a VM."""
    calls = running.filter_calls()
    return sum(count for pod, count in calls.items() if pod.startswith(f"virt-launcher-{vm}-"))


async def starts(running: Stack, pods: Mapping[str, dict[str, Any]], prefix: str) -> dict[str, int]:
    """Return the slice on which the GPU instance of each VM begins whose name has that prefix."""
    names = {pod["metadata"]["uid"]: name for name, pod in pods.items() if name.startswith(prefix)}
    return {
        names[each.pod.uid]: each.start
        for node in await running.gpu_nodes()
        for each in node.spec.assignments
        if each.pod is not None and each.pod.uid in names
    }


async def guard(running: Stack, vm: str) -> None:
    """Let a disruption budget forbid that a VM's pod is evicted, as a controller does."""
    selector = {"matchLabels": {"vm.kubevirt.io/name": vm}}
    body = {"metadata": {"name": vm}, "spec": {"minAvailable": 1, "selector": selector}}
    await running.api.create(POD_DISRUPTION_BUDGETS, body, namespace="default")
    counts = {"currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}
    status = {**counts, "disruptionsAllowed": 0, "observedGeneration": 1}
    await running.api.patch(
        POD_DISRUPTION_BUDGETS,
        vm,
        {"status": status},
        patch_type=PatchType.MERGE,
        namespace="default",
        subresource="status",
    )


async def forbid(running: Stack, vm: str) -> None:
    """Have the API server refuse the eviction of a VM's pod, as KubeVirt's webhook may."""
    rule = {
        "apiGroups": [""],
        "apiVersions": ["*"],
        "operations": ["CREATE"],
        "resources": ["pods/eviction"],
    }
    other = f"!object.metadata.name.startsWith('virt-launcher-{vm}-')"
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": other, "message": f"{vm} is not to be evicted"}],
    }
    binding = {"policyName": vm, "validationActions": ["Deny"]}
    await running.api.create(POLICIES, {"metadata": {"name": vm}, "spec": spec})
    await running.api.create(POLICY_BINDINGS, {"metadata": {"name": vm}, "spec": binding})
    pod = str((await running.pods())[vm]["metadata"]["name"])
    eviction = {"metadata": {"name": pod, "namespace": "default"}}

    async def refused() -> bool:
        try:
            await running.api.create(
                PODS,
                {"apiVersion": "policy/v1", "kind": "Eviction", **eviction},
                namespace="default",
                name=pod,
                subresource="eviction",
                dry_run=True,
            )
        except Invalid:
            return True
        return False

    await until(refused, within=30, every=0.1)


async def events(running: Stack, reason: str) -> list[Mapping[str, Any]]:
    return [each for each in await running.listed(EVENTS, "default") if each["reason"] == reason]


@pytest.mark.parametrize(("guarded", "victims"), [(range(4), 3), (range(4, 7), 4)])
async def test_a_vm_of_high_priority_evicts_the_fewest_that_free_its_place_and_nobody_more(
    tmp_path: Path, guarded: range, victims: int
) -> None:
    """Two GPUs with seven small VMs each: three on one half of a GPU, or four on the other.

    One of those that begin on the *guarded* slices may not go.
    """
    async with stack(artifacts(tmp_path), nodes=2, gpus=1) as running:
        await classes(running, low=10, middle=100, high=1000)
        for at in range(7):
            await create(running, f"middle-{at}", ONE, "middle")
        await running.bound_pods(at_least=7)
        for at in range(7):
            await create(running, f"low-{at}", ONE)
        await running.bound_pods(at_least=14)
        await create(running, "waits", ONE)
        pods = await settled(running)
        low = await starts(running, pods, "low-")
        half = {name for name, start in low.items() if start in guarded}
        await guard(running, min(half))

        await create(running, "high", THREE, "high")

        async def placed() -> bool:
            return "high" in bound(await running.pods())

        await until(placed, within=60, every=0.1)
        pods = await settled(running)
        before = filtered(running, "high")
        await asyncio.sleep(SETTLES_SECONDS)

        gone = evicted(running)
        assert len(gone) == victims  # however often anybody asked
        assert set(gone) == low.keys() - half
        assert not set(gone) & pods.keys()
        assert "waits" not in bound(pods)  # what they left was never anybody else's
        assert filtered(running, "high") == before <= 4 * victims  # each that leaves wakes it
        assert len(await events(running, "VgpuPreempting")) >= 1
        told = await events(running, "VgpuPreempted")
        kinds = {each["involvedObject"]["kind"] for each in told}
        assert kinds == {"Pod", "VirtualMachineInstance"}


async def test_of_several_nobody_goes_where_the_api_server_would_refuse_one(tmp_path: Path) -> None:
    """The two on one GPU are of the lowest priority, and both would have to go."""
    async with stack(artifacts(tmp_path), nodes=2, gpus=1) as running:
        await classes(running, low=10, middle=100, high=1000)
        # None has what the other wants: else kube-scheduler would find its slots taken, and choose.
        await create(running, "dear-a", THREE, "middle")
        await create(running, "dear-b", THREE, "middle")
        await running.bound_pods(at_least=2)
        await create(running, "goes", THREE)
        await create(running, "stays", THREE)
        await running.bound_pods(at_least=4)
        await settled(running)
        await forbid(running, "stays")

        await create(running, "high", WHOLE, "high")

        async def placed() -> bool:
            return "high" in bound(await running.pods())

        await until(placed, within=60, every=0.1)
        pods = await settled(running)

        assert sorted(evicted(running)) == ["dear-a", "dear-b"]
        assert bound(pods) == {"goes", "stays", "high"}


async def test_where_eviction_cannot_help_nobody_is_evicted_and_nobody_asks_without_end(
    tmp_path: Path,
) -> None:
    async with stack(artifacts(tmp_path), nodes=2, gpus=1) as running:
        await classes(running, low=10, high=1000)
        never = {"metadata": {"name": "never"}, "value": 1000, "preemptionPolicy": "Never"}
        await running.api.create(PRIORITY_CLASSES, never)
        await create(running, "guarded", THREE)
        await create(running, "equal", WHOLE, "high")
        await running.bound_pods(at_least=2)
        await settled(running)
        await guard(running, "guarded")

        # Of the one GPU's VMs one is guarded, the other's is as high; and the last preempts nobody.
        await create(running, "high", WHOLE, "high")
        await create(running, "never", WHOLE, "never")
        await running.quiet()
        before = sum(running.filter_calls().values())
        await asyncio.sleep(2 * SETTLES_SECONDS)
        pods = await settled(running)

        assert bound(pods) == {"guarded", "equal"}
        assert "no free placement" in pending_reason(pods["high"])
        assert sum(running.filter_calls().values()) - before <= 8  # no hot loop
        assert evicted(running) == []
        assert not any(
            entry.pod is None
            for node in await running.gpu_nodes()
            for entry in node.spec.assignments
        )


async def test_whom_the_scheduler_would_evict_for_cpu_goes_only_where_the_gpu_instance_then_fits(
    tmp_path: Path,
) -> None:
    """Its own choice is where the victim is of the lowest priority: there the GPU is full."""
    async with stack(artifacts(tmp_path), nodes=2, gpus=1) as running:
        await classes(running, lowest=1, low=10, high=1000)
        await create(running, "equal", WHOLE, "high")
        await running.bound_pods(at_least=1)
        full = (await settled(running))["equal"]["spec"]["nodeName"]
        (free,) = {node.name for node in await running.gpu_nodes()} - {full}
        await busy(running, full, "lowest")
        await busy(running, free, "low")

        await create(running, "high", THREE, "high", cpu=64)
        await running.bound_pods(at_least=2)
        await create(running, "whole", WHOLE, "high", cpu=64)
        pods = await settled(running)
        await asyncio.sleep(SETTLES_SECONDS)

        left = {pod["metadata"]["name"] for pod in await running.listed(PODS, "default")}
        assert bound(pods) == {"equal", "high"}
        assert pods["high"]["spec"]["nodeName"] == free
        assert {f"busy-{full}", f"busy-{free}"} & left == {f"busy-{full}"}
        assert evicted(running) == []
