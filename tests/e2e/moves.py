"""What tests of moves do on a real control plane, and what they look at.

What moves are the pods of StatefulSets: their controller makes a pod anew wherever it is evicted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from extender.moving import Order
from nodeagent.api import keys
from nodeagent.apiserver.protocol import (
    CONFIG_MAPS,
    POD_DISRUPTION_BUDGETS,
    STATEFUL_SETS,
    NotFound,
    PatchType,
)
from tests.e2e.desk import ALICE, lead_to_the_desk, post
from tests.e2e.judge import violations
from tests.e2e.process import ROOT
from tests.e2e.stack import RESOURCES, Stack, free_port, stack
from tests.waiting import until

FOUR, THREE, ONE, WHOLE = 5, 9, 19, 0
HEAD = "apiVersion: tangram.dev/v1alpha1\nkind: PlacementPolicy\n"
APPLY = f"{HEAD}moves: {{mode: apply}}\n"
SLOW = f"{HEAD}moves: {{mode: apply, perHour: 1}}\n"
PAUSED = f"{HEAD}moves: {{mode: apply, paused: true}}\n"
MOVER = "tangram-mover"


def policy_of(directory: Path) -> Path:
    """Return the policy file of a stack whose logs are in a directory."""
    return directory / "policy.yaml"


@contextlib.asynccontextmanager
async def moving(directory: Path, *, program: str = "extender") -> AsyncIterator[Stack]:
    """Run two nodes with a GPU each, and an extender that Alice may have move VMs."""
    port, policy = free_port(), policy_of(directory)
    policy.write_text(APPLY)
    running = stack(
        directory,
        nodes=2,
        gpus=1,
        users=(ALICE,),
        options=("--host", "0.0.0.0", "--desk-port", str(port)),
        policy=str(policy),
        program=program,
    )
    async with running as made:
        await made.plane.start_controller_manager()
        await lead_to_the_desk(made, port)
        await let_alice_move(made)
        yield made


async def fragmented(running: Stack) -> None:
    """Let two VMs run, each on a node of its own, and one wait that wants a node whole."""
    await create(running, "half", FOUR)
    await create(running, "filler", THREE)
    await running.bound_pods(at_least=2)
    await create(running, "small", ONE)
    await running.bound_pods(at_least=3)
    await remove(running, "filler")
    assert await on(running, "small") != await on(running, "half")
    await create(running, "whole", WHOLE)


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
    status, said, wrong = await _said(running, *arguments)
    assert said, wrong.decode()
    return status, json.loads(said)


async def given(running: Stack, *arguments: str) -> None:
    """Apply a plan again and again until there is an order, whatever comes between."""
    while await order(running) is None:
        await running.ready()
        await _said(running, *arguments)


async def _said(running: Stack, *arguments: str) -> tuple[int, bytes, bytes]:
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
    return process.returncode, said, wrong


async def order(running: Stack) -> Order | None:
    """Return the last order, as it is kept."""
    try:
        raw = await running.api.get(
            CONFIG_MAPS, keys.ORDER_CONFIG_MAP, namespace=keys.SYSTEM_NAMESPACE
        )
    except NotFound:
        return None
    return msgspec.json.decode(msgspec.json.decode(raw)["data"]["order.json"], type=Order)


async def over(running: Stack, *, within: float = 180.0) -> Order:
    """Wait until the order is over."""
    found: Order | None = None

    async def ended() -> bool:
        nonlocal found
        found = await order(running)
        return found is not None and found.over

    await until(ended, within=within, every=0.2)
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
