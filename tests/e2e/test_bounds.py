"""The accounts of an installation may not overstep: by its roles, and its policies where these end.

One installation is tried by all, so each leaves it as it was; it is uninstalled by the last.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from nodeagent import pod_events
from nodeagent.api import keys
from tests.e2e.bounds import (
    ENTRY,
    GPU_NODES,
    LEASES,
    OTHER_ENTRY,
    SYSTEM_PODS,
    Bounds,
    bounded,
    gpu_node,
    lease,
)
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bounds() -> AsyncIterator[Bounds]:
    async with bounded() as made:
        yield made


async def test_an_agent_speaks_for_its_own_node_alone(bounds: Bounds) -> None:
    agent = await bounds.caller("tangram-agent", "agent-node-1")
    report = {"status": {"agentEpoch": "e", "sequence": 1}}

    assert (await agent.merge(f"{GPU_NODES}/node-1/status", report))[0] == 200
    assert (await agent.post(LEASES, lease("node-1")))[0] == 201
    assert (await agent.merge(f"{LEASES}/tangram-agent-node-1", {"spec": {}}))[0] == 200

    status, text = await agent.merge(f"{GPU_NODES}/node-2/status", report)
    assert status == 403
    assert "the agent on node-1 writes that GpuNode's status, and nothing else" in text
    status, text = await agent.post(LEASES, lease("node-2"))
    assert status == 403
    assert "tangram-agent-node-1, and no other" in text
    another = await bounds.caller("tangram-agent", "agent-node-2")
    status, _ = await another.merge(f"{LEASES}/tangram-agent-node-1", {"spec": {}})
    assert status == 403
    status, _ = await agent.post(LEASES, lease("x") | {"metadata": {"name": keys.LEADER_LEASE}})
    assert status == 403


async def test_an_agent_warns_of_what_is_on_its_own_node_alone(bounds: Bounds) -> None:
    agent = await bounds.caller("tangram-agent", "agent-node-1")
    events = "/api/v1/namespaces/default/events"

    async def warned(name: str, **fields: object) -> int:
        warning = {
            "metadata": {"name": name},
            "involvedObject": {"kind": "Pod", "namespace": "default", "name": "vm", "uid": "vm"},
            "reason": "GpuQuarantined",
            "source": {"component": pod_events.COMPONENT, "host": "node-1"},
            **fields,
        }
        return (await agent.post(events, warning))[0]

    async def elsewhere_refused() -> bool:
        source = {"component": pod_events.COMPONENT, "host": "node-2"}
        return await warned("elsewhere", source=source) == 403

    await until(elsewhere_refused, within=60, every=0.2)
    assert await warned("here") == 201
    assert await warned("nowhere", source={}) == 403
    assert await warned("by-the-kubelet", source={"component": "kubelet", "host": "node-1"}) == 403


async def test_an_agents_token_that_is_bound_to_no_node_speaks_for_none(bounds: Bounds) -> None:
    stolen = await bounds.caller("tangram-agent")

    status, text = await stolen.merge(f"{GPU_NODES}/node-1/status", {"status": {"sequence": 1}})

    assert status == 403
    assert "bound to no node" in text


async def test_whatever_else_an_agents_account_is_given_it_writes_no_plan(bounds: Bounds) -> None:
    given = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "too-much"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "cluster-admin",
        },
        "subjects": [
            {
                "kind": "ServiceAccount",
                "name": "tangram-agent",
                "namespace": keys.SYSTEM_NAMESPACE,
            }
        ],
    }
    agent = await bounds.caller("tangram-agent", "agent-node-1")
    plan = {"spec": {"assignments": [ENTRY]}}
    assert "cannot patch resource" in (await agent.merge(f"{GPU_NODES}/node-1", plan))[1]
    await bounds.installer.apply(given)

    async def allowed() -> bool:
        return (await agent.merge("/api/v1/nodes/node-2?dryRun=All", {}))[0] == 200

    await until(allowed, within=30, every=0.1)
    refused = [
        await agent.merge(f"{GPU_NODES}/node-1", plan),
        await agent.merge(f"{GPU_NODES}/node-1", {"metadata": {"annotations": {"x": "y"}}}),
        await agent.post(GPU_NODES, gpu_node("node-3")),
        await agent.delete(f"{GPU_NODES}/node-1"),
        await agent.post(LEASES, lease("x") | {"metadata": {"name": keys.LEADER_LEASE}}),
    ]

    bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    assert (await bounds.admin.delete(f"{bindings}/too-much"))[0] == 200

    assert [status for status, _ in refused] == [403] * len(refused)
    assert all("ValidatingAdmissionPolicy 'tangram-" in text for _, text in refused)


async def test_leases_and_binds_do_not_queue_with_others(bounds: Bounds) -> None:
    extender = await bounds.caller("tangram-extender", "extender")
    ours = (await bounds.read("/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/tangram"))[
        "metadata"
    ]["uid"]

    async def apart() -> bool:
        return bool(await extender.flow_schema(f"{LEASES}/{keys.LEADER_LEASE}") == ours)

    await until(apart, within=60, every=0.2)
    assert await extender.flow_schema(f"{SYSTEM_PODS}/nobody/binding", "POST") == ours
    assert await extender.flow_schema(f"{GPU_NODES}/node-1", "PATCH") == ours
    agent = await bounds.caller("tangram-agent", "agent-node-1")
    assert await agent.flow_schema(f"{LEASES}/tangram-agent-node-1", "PATCH") == ours
    assert await agent.flow_schema(f"{GPU_NODES}/node-1/status", "PATCH") == ours
    assert await extender.flow_schema("/api/v1/nodes?limit=1") != ours
    assert await bounds.admin.flow_schema(f"{GPU_NODES}/node-1") != ours


async def test_nobody_but_the_extender_writes_plans(bounds: Bounds) -> None:
    admin, node = bounds.admin, f"{GPU_NODES}/node-1"
    extender = await bounds.caller("tangram-extender", "extender")
    said = "only Tangram's extender writes plans"

    assert said in (await admin.merge(node, {"spec": {"assignments": [ENTRY]}}))[1]
    assert said in (await admin.post(GPU_NODES, gpu_node("node-3", ENTRY)))[1]
    status, _ = await extender.merge(node, {"spec": {"assignments": [ENTRY]}})
    assert status == 200
    changes: tuple[Any, ...] = ({"assignments": []}, {"assignments": [OTHER_ENTRY]}, None)
    for change in changes:
        status, text = await admin.merge(node, {"spec": change})
        assert (status, said in text) == (403, True)
    assert said in (await admin.delete(node))[1]
    assert (await extender.merge(node, {"spec": {"assignments": []}}))[0] == 200


async def test_people_say_which_gpus_may_be_used_and_remove_what_is_empty(bounds: Bounds) -> None:
    opted_out = {"metadata": {"annotations": {keys.GPUS_ANNOTATION: "none"}}}
    extender = await bounds.caller("tangram-extender", "extender")
    assert (await extender.post(GPU_NODES, gpu_node("node-4")))[0] == 201

    assert (await bounds.admin.merge(f"{GPU_NODES}/node-4", opted_out))[0] == 200
    assert (await bounds.admin.delete(f"{GPU_NODES}/node-4"))[0] == 200


async def test_of_pods_the_extender_changes_its_labels_and_annotations_alone(
    bounds: Bounds,
) -> None:
    extender = await bounds.caller("tangram-extender", "extender")
    pod = f"{SYSTEM_PODS}/extender"
    mine = {
        "labels": {keys.MANAGED_LABEL: "true", keys.LEADER_LABEL: "true"},
        "annotations": {keys.WAKE_ANNOTATION: "1", keys.UNBOUND_ANNOTATION: "1"},
    }
    status, _ = await bounds.admin.merge(pod, {"metadata": {"labels": {"theirs": "x"}}})
    assert status == 200

    assert (await extender.merge(pod, {"metadata": mine}))[0] == 200
    assert (await extender.merge(pod, {"metadata": mine}))[0] == 200
    gone = {"metadata": {"labels": {keys.LEADER_LABEL: None}}}
    assert (await extender.merge(pod, gone))[0] == 200

    image = {"spec": {"containers": [{"name": "tangram", "image": "evil"}]}}
    assert (await bounds.admin.merge(pod, {"metadata": {"annotations": {"x": "y"}}}))[0] == 200
    for forged in (
        image,
        {"metadata": {"labels": {"theirs": "y"}}},
        {"metadata": {"labels": {"theirs": None}}},
        {"metadata": {"labels": {keys.MANAGED_LABEL: None}}},
        {"metadata": {"annotations": {keys.DECISION_ANNOTATION: "[]"}}},
        {"metadata": {"finalizers": ["tangram.dev/stay"]}},
    ):
        status, text = await extender.merge(pod, forged)
        # Where two policies refuse, the API server names either.
        refuses = any(name in text for name in ("tangram-pods", "tangram-decisions"))
        assert (status, refuses) == (403, True), (forged, text)


async def test_where_a_vm_is_nobody_says_but_its_binding(bounds: Bounds) -> None:
    pods = "/api/v1/namespaces/default/pods"
    spec = {"containers": [{"name": "c", "image": "none"}]}
    status, text = await bounds.admin.post(pods, {"metadata": {"name": "vm"}, "spec": spec})
    assert status == 201, text
    target = {"apiVersion": "v1", "kind": "Node", "name": "node-1"}
    told = {"name": "vm", "annotations": {keys.DECISION_ANNOTATION: "[]"}}
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": told, "target": target}

    async def forge(value: str | None, resource: str = "") -> tuple[int, str]:
        annotations = {"metadata": {"annotations": {keys.DECISION_ANNOTATION: value}}}
        return await bounds.admin.merge(f"{pods}/vm{resource}", annotations)

    async def refused() -> bool:
        return (await forge("forged"))[0] == 403

    await until(refused, within=60, every=0.2)
    extender = await bounds.caller("tangram-extender", "extender")
    assert (await extender.post(f"{pods}/vm/binding", binding))[0] == 201
    for value in ("forged", None):
        for resource in ("", "/status"):
            status, text = await forge(value, resource)
            assert (status, "comes with the Binding" in text) == (403, True)
    kept = (await bounds.read(f"{pods}/vm"))["metadata"]["annotations"]
    assert kept == {keys.DECISION_ANNOTATION: "[]"}
    labelled = {"metadata": {"labels": {"x": "y"}}}
    assert (await bounds.admin.merge(f"{pods}/vm", labelled))[0] == 200


async def test_uninstalling_is_not_held_up_by_plans(bounds: Bounds) -> None:
    extender = await bounds.caller("tangram-extender", "extender")
    status, _ = await extender.merge(f"{GPU_NODES}/node-1", {"spec": {"assignments": [ENTRY]}})
    assert status == 200
    definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gpunodes.tangram.dev"

    assert (await bounds.admin.delete(definition))[0] == 200

    async def gone() -> bool:
        return bool((await bounds.read(definition)).get("code") == 404)

    await until(gone, within=60, every=0.2)
