"""A tenant may do in its namespace what Kubernetes lets its editors do, and gets no GPU by it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from nodeagent.api import keys
from tests.e2e.bounds import ENTRY, GPU_NODES, LEASES, Bounds, Caller, bounded, gpu_node, lease
from tests.waiting import until

OWN, ANOTHERS = "alpha", "beta"
ROLES = tuple(f"system:aggregate-to-{role}" for role in ("view", "edit", "admin"))
"""What the roles view, edit and admin are put together from."""
RESOURCE = "nvidia.com/mig-1g.10gb"
PLAIN = {"name": "c", "image": "none"}
ASKING = PLAIN | {"resources": {"limits": {RESOURCE: "1"}, "requests": {RESOURCE: "1"}}}


def pods(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods"


def pod(*containers: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "vm"}, "spec": {"containers": list(containers or (PLAIN,))}}


class Tenancy(NamedTuple):
    """A tenant with a pod, and a neighbour with another."""

    bounds: Bounds
    tenant: Caller


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tenancy() -> AsyncIterator[Tenancy]:
    async with bounded() as bounds:
        for namespace in (OWN, ANOTHERS):
            body: dict[str, Any] = {"metadata": {"name": namespace}}
            assert (await bounds.admin.post("/api/v1/namespaces", body))[0] == 201
            assert (await bounds.admin.post(pods(namespace), pod()))[0] == 201
        await bounds.installer.apply(named("v1", "ServiceAccount", "tenant"))
        for number, role in enumerate(ROLES):
            subject = {"kind": "ServiceAccount", "name": "tenant", "namespace": OWN}
            binding = named("rbac.authorization.k8s.io/v1", "RoleBinding", f"tenant-{number}")
            role_ref = {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": role,
            }
            await bounds.installer.apply(binding | {"roleRef": role_ref, "subjects": [subject]})
        tenant = await bounds.caller("tenant", namespace=OWN)

        async def known() -> bool:
            return (await tenant.merge(f"{pods(OWN)}/vm?dryRun=All", {}))[0] == 200

        await until(known, within=30, every=0.1)
        yield Tenancy(bounds, tenant)


def named(version: str, kind: str, name: str) -> dict[str, Any]:
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "namespace": OWN},
    }


async def test_a_tenant_forges_no_place_moves_nobody_and_has_no_say_in_nodes(
    tenancy: Tenancy,
) -> None:
    bounds, tenant = tenancy
    own, anothers = f"{pods(OWN)}/vm", f"{pods(ANOTHERS)}/vm"
    node = f"{GPU_NODES}/node-1"
    decided = {"metadata": {"annotations": {keys.DECISION_ANNOTATION: "[]"}}}
    opted = {"metadata": {"annotations": {keys.GPUS_ANNOTATION: "none"}}}
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "vm", "annotations": decided["metadata"]["annotations"]},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "node-1"},
    }

    async def in_force() -> bool:
        return (await tenant.merge(f"{own}?dryRun=All", decided))[0] == 403

    await until(in_force, within=60, every=0.2)
    refused = {
        "a decision": await tenant.merge(own, decided),
        "its own binding": await tenant.post(f"{own}/binding", binding),
        "its own end": await tenant.merge(f"{own}/status", {"status": {"phase": "Succeeded"}}),
        "a place in a plan": await tenant.merge(node, {"spec": {"assignments": [ENTRY]}}),
        "a GPU instance": await tenant.merge(f"{node}/status", {"status": {"sequence": 1}}),
        "a node's inventory": await tenant.post(GPU_NODES, gpu_node("node-3")),
        "a plan's end": await tenant.delete(node),
        "which GPUs are used": await tenant.merge(node, opted),
        "an agent's life": await tenant.post(LEASES, lease("node-1")),
        "a node's label": await tenant.merge(
            "/api/v1/nodes/node-1", {"metadata": {"labels": {"tangram.dev/gpu-node": "true"}}}
        ),
        "another's place": await tenant.merge(anothers, decided),
        "another's label": await tenant.merge(
            anothers, {"metadata": {"labels": {keys.MANAGED_LABEL: None}}}
        ),
        "another's end": await tenant.delete(anothers),
        "another's move": await tenant.post(
            f"{anothers}/eviction",
            {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "vm"}},
        ),
    }

    assert {what: status for what, (status, _) in refused.items()} == dict.fromkeys(refused, 403)
    found = await bounds.read(anothers)
    assert "deletionTimestamp" not in found["metadata"]


async def test_no_pod_that_is_there_begins_to_ask_for_a_gpu_instance(tenancy: Tenancy) -> None:
    """By the webhook alone which is asked when a pod is created, it would pass unseen."""
    bounds, tenant = tenancy
    itself = f"{pods(OWN)}/vm"
    asking = {"spec": {"containers": [ASKING]}}
    ephemeral = {"spec": {"ephemeralContainers": [ASKING | {"name": "debug"}]}}
    for who in (tenant, bounds.admin):
        answers = [
            await who.merge(itself, asking),
            await who.merge(f"{itself}/resize", asking),
            await who.merge(f"{itself}/ephemeralcontainers", ephemeral),
        ]
        assert [status in (403, 422) for status, _ in answers] == [True] * 3, answers
    found = await bounds.read(itself)
    assert RESOURCE not in str(found["spec"])

    # And where nobody answers for the webhook, none that asks for one is created.
    body = pod(ASKING) | {"metadata": {"name": "another"}}
    status, text = await tenant.post(pods(OWN), body)
    assert (status, "failed calling webhook" in text) == (500, True)


async def test_a_tenants_pod_does_not_go_before_others_as_tangrams_own_do(
    tenancy: Tenancy,
) -> None:
    bounds, tenant = tenancy
    body = pod() | {"metadata": {"name": "first"}}
    body["spec"] |= {"priorityClassName": "tangram"}

    async def refused() -> bool:
        return (await tenant.post(f"{pods(OWN)}?dryRun=All", body))[0] == 403

    await until(refused, within=60, every=0.2)
    assert "for Tangram's own pods" in (await tenant.post(pods(OWN), body))[1]
    own = f"{pods(keys.SYSTEM_NAMESPACE)}?dryRun=All"
    assert (await bounds.admin.post(own, body))[0] == 201
