"""Moves under a real kube-scheduler and the real controllers of budgets and of what is moved.

What moves are the pods of StatefulSets: their controller makes a pod anew wherever it is evicted.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec

from extender.moving import Order, Outcome
from nodeagent.api import keys
from nodeagent.apiserver.protocol import (
    CONFIG_MAPS,
    EVENTS,
    POD_DISRUPTION_BUDGETS,
    PODS,
    STATEFUL_SETS,
    NotFound,
    PatchType,
)
from tests.e2e.desk import ALICE, lead_to_the_desk, post
from tests.e2e.judge import violations
from tests.e2e.process import ROOT
from tests.e2e.stack import RESOURCES, Stack, artifacts, free_port, stack
from tests.waiting import until

FOUR, THREE, ONE, WHOLE = 5, 9, 19, 0
POLICY = "apiVersion: tangram.dev/v1alpha1\nkind: PlacementPolicy\nmoves: {mode: apply}\n"
MOVER = "tangram-mover"


async def create(running: Stack, name: str, profile: int) -> None:
    """Create what runs as one pod, for a vGPU of a profile."""
    labels = {
        "kubevirt.io": "virt-launcher",
        "vm.kubevirt.io/name": name,
        keys.MANAGED_LABEL: "true",
    }
    amounts = {RESOURCES[profile]: "1"}
    container = {
        "name": "compute",
        "image": "none",
        "resources": {"requests": amounts, "limits": amounts},
    }
    body = {
        "metadata": {"name": name},
        "spec": {
            "serviceName": name,
            "replicas": 1,
            "selector": {"matchLabels": {"vm.kubevirt.io/name": name}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
            },
        },
    }
    await running.api.create(STATEFUL_SETS, body, namespace="default")


async def remove(running: Stack, name: str) -> None:
    """Let nothing run of that name any more."""
    nothing = {"spec": {"replicas": 0}}
    await running.api.patch(
        STATEFUL_SETS, name, nothing, patch_type=PatchType.MERGE, namespace="default"
    )

    async def gone() -> bool:
        return name not in await running.pods()

    await until(gone, within=60, every=0.1)


async def guard(running: Stack, budget: str, *names: str, min_available: int) -> None:
    """Create a disruption budget, and wait until its controller has looked at it."""
    selector = {"matchExpressions": [
        {"key": "vm.kubevirt.io/name", "operator": "In", "values": list(names)}
    ]}  # fmt: skip
    body = {
        "metadata": {"name": budget},
        "spec": {"minAvailable": min_available, "selector": selector},
    }
    await running.api.create(POD_DISRUPTION_BUDGETS, body, namespace="default")

    async def looked_at() -> bool:
        raw = await running.api.get(POD_DISRUPTION_BUDGETS, budget, namespace="default")
        status = msgspec.json.decode(raw).get("status", {})
        healthy = status.get("currentHealthy", 0) == len(names)
        return bool(status.get("observedGeneration") == 1 and healthy)

    await until(looked_at, within=60, every=0.2)


async def let_alice_move(running: Stack) -> None:
    """Bind the roles of the manifests to her, as their comments say."""
    rbac = "rbac.authorization.k8s.io"
    subjects = [{"kind": "User", "name": ALICE}]
    role = {"apiGroup": rbac, "kind": "ClusterRole", "name": MOVER}
    cluster = {"metadata": {"name": MOVER}, "roleRef": role, "subjects": subjects}
    await post(running, f"/apis/{rbac}/v1/clusterrolebindings", cluster)
    role = {"apiGroup": rbac, "kind": "Role", "name": MOVER}
    own = {"metadata": {"name": MOVER}, "roleRef": role, "subjects": subjects}
    path = f"/apis/{rbac}/v1/namespaces/{keys.SYSTEM_NAMESPACE}/rolebindings"
    await post(running, path, own)


async def tangram(running: Stack, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run the command line as Alice; return its status and what it says to programs."""
    kubeconfig = running.plane.kubeconfig(ALICE)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "extender", *arguments, "-o", "json"),
        *("--kubeconfig", str(kubeconfig)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    said, wrong = await asyncio.wait_for(process.communicate(), 240)
    assert process.returncode is not None
    assert said, wrong.decode()
    return process.returncode, json.loads(said)


async def order(running: Stack) -> Order | None:
    """Return the last order, as it is kept."""
    try:
        raw = await running.api.get(
            CONFIG_MAPS, keys.ORDER_CONFIG_MAP, namespace=keys.SYSTEM_NAMESPACE
        )
    except NotFound:
        return None
    return msgspec.json.decode(msgspec.json.decode(raw)["data"]["order.json"], type=Order)


async def over(running: Stack) -> Order:
    """Wait until the order is over."""
    found: Order | None = None

    async def ended() -> bool:
        nonlocal found
        found = await order(running)
        return found is not None and found.over

    await until(ended, within=180, every=0.2)
    assert found is not None
    return found


async def on(running: Stack, name: str) -> str:
    """Return the node that something runs on."""
    pod = (await running.pods())[name]
    return str(pod["spec"].get("nodeName", ""))


async def uids(running: Stack) -> dict[str, str]:
    return {name: pod["metadata"]["uid"] for name, pod in (await running.pods()).items()}


async def sound(running: Stack) -> None:
    """Wait for quiet, and demand that plans and pods agree, with nothing held for anybody."""
    await running.quiet()
    nodes, pods = await running.gpu_nodes(), await running.pods()
    assert list(violations(nodes, pods)) == []
    assert [e.id for node in nodes for e in node.spec.assignments if e.pod is None] == []


async def test_a_pending_vm_is_admitted_by_an_applied_plan_unless_a_budget_blocks_it(
    tmp_path: Path,
) -> None:
    directory, port = artifacts(tmp_path), free_port()
    policy = directory / "policy.yaml"
    policy.write_text(POLICY)
    options = ("--host", "0.0.0.0", "--desk-port", str(port))
    async with stack(
        directory, nodes=2, gpus=1, users=(ALICE,), options=options, policy=str(policy)
    ) as running:
        await running.plane.start_controller_manager()
        await lead_to_the_desk(running, port)
        await let_alice_move(running)
        await create(running, "half", FOUR)
        await create(running, "filler", THREE)
        await running.bound_pods(at_least=2)
        await create(running, "small", ONE)
        await running.bound_pods(at_least=3)
        await remove(running, "filler")
        assert await on(running, "small") != await on(running, "half")
        await create(running, "whole", WHOLE)
        await guard(running, "tight", "small", "half", min_available=2)
        await running.quiet()
        before = await uids(running)
        admit = ("--admit", "default/whole-0", "--yes", "--wait")

        status, said = await tangram(running, "defrag", "apply", *admit)
        assert (status, said["outcome"]) == (2, "infeasible")
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
        assert said["outcome"] == "done"
        await running.bound_pods(at_least=3)
        await sound(running)
        after = await uids(running)
        assert await on(running, "small") == await on(running, "half")
        assert await on(running, "whole") not in ("", await on(running, "half"))
        assert {name for name in before if before[name] != after[name]} == {"small"}
        reasons = {each["reason"] for each in await running.listed(EVENTS, "default")}
        assert {"VgpuMoving", "VgpuMoved"} <= reasons


async def test_a_drain_goes_on_after_a_kill_keeps_to_budgets_and_says_what_holds_a_node(
    tmp_path: Path,
) -> None:
    """Of two that share a budget, the second goes only once the first is up again."""
    directory, port = artifacts(tmp_path), free_port()
    policy = directory / "policy.yaml"
    policy.write_text(POLICY)
    options = ("--host", "0.0.0.0", "--desk-port", str(port))
    async with stack(
        directory, nodes=2, gpus=1, users=(ALICE,), options=options, policy=str(policy)
    ) as running:
        await running.plane.start_controller_manager()
        await lead_to_the_desk(running, port)
        await let_alice_move(running)
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

        status, said = await tangram(running, "drain", drained, "apply", "--yes")
        assert (status, said["over"]) == (0, False)
        given = await order(running)
        assert given is not None
        for made in (0, 2):  # in the middle of the first move, and of the third

            async def begun(made: int = made) -> bool:
                now = await order(running)
                assert now is not None
                return now.over or (len(now.made) >= made and now.departed is not None)

            await until(begun, within=120, every=0.02)
            await running.extender.stop(signal.SIGKILL)
            await running.extender.start()
        ended = await over(running)
        await sound(running)
        after = await uids(running)

        assert (ended.ending, len(ended.made)) == (Outcome.DONE, len(names)), ended.why
        assert all(before[name] != after[name] for name in names)
        assert {await on(running, name) for name in names} == {given.legs[0].target.node}
        assert given.legs[0].target.node != drained

        there = given.legs[0].target.node
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
