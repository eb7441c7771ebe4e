"""The agent of simulated GPUs speaks for simulated nodes, and cannot pass one off as a real one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest

from nodeagent.api import keys
from tests.e2e.bounds import GPU_NODES, LEASES, Caller, administered, gpu_node, lease
from tests.manifests.kustomize import overlay
from tests.waiting import until

ACCOUNT = "tangram-simulated-agent"
REAL, SIMULATED = "node-1", "tangram-simulated-0"
PODS = "/api/v1/namespaces/default/pods"
REPORT = {"status": {"agentEpoch": "e", "sequence": 1}}
READY = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}


class Trials(NamedTuple):
    """Who tries it, and who sees to it that there is something to try it on."""

    agent: Caller
    admin: Caller


@pytest.fixture
async def trials() -> AsyncIterator[Trials]:
    async with administered() as (_, session, installer):
        await installer.install(overlay("dev"))
        admin = Caller(session)
        body: dict[str, Any] = {"metadata": {"name": REAL}}
        assert (await admin.post("/api/v1/nodes", body))[0] == 201
        for node in (REAL, SIMULATED):
            assert (await admin.post(GPU_NODES, gpu_node(node)))[0] == 201
            spec = {"nodeName": node, "containers": [{"name": "c", "image": "none"}]}
            body = {"metadata": {"name": f"on-{node}"}, "spec": spec}
            assert (await admin.post(PODS, body))[0] == 201
        body = {"metadata": {"name": "waiting"}, "spec": {"containers": spec["containers"]}}
        assert (await admin.post(PODS, body))[0] == 201
        assert (await admin.post(LEASES, lease(REAL)))[0] == 201
        leaders = lease("x") | {"metadata": {"name": keys.LEADER_LEASE}}
        assert (await admin.post(LEASES, leaders))[0] == 201
        await installer.pod("agent", ACCOUNT, REAL)
        agent = Caller(session, await installer.token(ACCOUNT, "agent"))
        real = f"{GPU_NODES}/{REAL}/status?dryRun=All"

        async def in_force() -> bool:
            return (await agent.merge(real, REPORT))[0] == 403

        await until(in_force, within=60, every=0.2)
        yield Trials(agent, admin)


async def test_it_writes_for_simulated_nodes_and_their_pods_and_for_no_others(
    trials: Trials,
) -> None:
    agent, _ = trials
    taken = {"spec": {"holderIdentity": "me"}}
    mine = await agent.post(LEASES, lease(SIMULATED))
    own = [
        await agent.merge(f"{GPU_NODES}/{SIMULATED}/status", REPORT),
        await agent.merge(f"/api/v1/nodes/{SIMULATED}/status", READY),
        await agent.merge(f"{PODS}/on-{SIMULATED}/status", {"status": {"phase": "Running"}}),
        await agent.merge(f"{LEASES}/{keys.lease_name(SIMULATED)}", taken),
        await agent.delete(f"{PODS}/on-{SIMULATED}?gracePeriodSeconds=0"),
    ]
    forged = {
        "a real node's GPUs": await agent.merge(f"{GPU_NODES}/{REAL}/status", REPORT),
        "a real node's state": await agent.merge(f"/api/v1/nodes/{REAL}/status", READY),
        "a real pod's end": await agent.merge(
            f"{PODS}/on-{REAL}/status", {"status": {"phase": "Failed"}}
        ),
        "a real pod's removal": await agent.delete(f"{PODS}/on-{REAL}"),
        "a waiting pod's removal": await agent.delete(f"{PODS}/waiting"),
        "a real agent's life": await agent.merge(f"{LEASES}/{keys.lease_name(REAL)}", taken),
        "a real agent's birth": await agent.post(LEASES, lease("node-2")),
        "the extender's lead": await agent.merge(f"{LEASES}/{keys.LEADER_LEASE}", taken),
    }

    assert (mine[0], [status for status, _ in own]) == (201, [200] * len(own)), own
    assert {what: status for what, (status, _) in forged.items()} == dict.fromkeys(forged, 403)
    assert all("'tangram-simulated-agents'" in text for _, text in forged.values()), forged
    plan = await agent.merge(f"{GPU_NODES}/{SIMULATED}", {"spec": {"assignments": []}})
    assert (plan[0], "cannot patch resource" in plan[1]) == (403, True)  # by its role
