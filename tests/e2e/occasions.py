"""Occasions for all that the accounts may do: owners, nodes that go, policies that are wrong, …"""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import Collection, Mapping

import aiohttp

from extender.server.advised import MOVES
from extender.service.departing import NOBODY_MAKES_IT
from nodeagent.api import keys
from nodeagent.apiserver.protocol import EVENTS, LEASES, NODES, PODS, PatchType
from tests.e2e.installation import Installer
from tests.e2e.running import Installed
from tests.manifests.roles import Grant
from tests.waiting import until

RBAC = "rbac.authorization.k8s.io/v1"
METRICS_READER = "tangram-metrics-reader"

OWNERS = {
    "ReplicaSet": "apps/v1",
    "StatefulSet": "apps/v1",
    "VirtualMachineInstance": "kubevirt.io/v1",
}
"""Whose pods are asked after when they end: whether there will be another."""


async def owned(running: Installed) -> list[str]:
    """Create a VM for each kind of owner; return their names."""
    names = []
    for kind, version in OWNERS.items():
        owner = {"apiVersion": version, "kind": kind, "name": "x", "uid": kind, "controller": True}
        trial = running.trial()
        trial["metadata"]["ownerReferences"] = [owner]
        status, pod = await running.create(trial)
        assert status == 201, pod
        names.append(pod["metadata"]["name"])
    return names


async def one_of_high_priority_makes_room(running: Installed, wanted: Mapping[str, str]) -> None:
    """Let one that finds no room for what is *wanted* preempt others, and end; make up for these.

    *wanted* are a container's limits.
    """
    high = {"metadata": {"name": "high"}, "value": 1000}
    path = "/apis/scheduling.k8s.io/v1/priorityclasses"
    async with running.session.post(path, json=high) as answer:
        assert answer.status == 201, await answer.text()
    before = len(await running.pods())
    pod = running.trial()
    pod["metadata"] |= {"name": "high"}
    pod["spec"] |= {"priorityClassName": "high"}
    pod["spec"]["containers"][0]["resources"] = {"limits": dict(wanted)}
    status, made = await running.create(pod)
    assert status == 201, made

    async def placed() -> bool:
        pods = {pod["metadata"]["name"]: pod for pod in await running.pods()}
        phase: str = pods["high"]["status"]["phase"]
        return phase == "Running"

    await until(placed, within=60, every=0.2)
    others = len(await running.pods()) - 1
    assert others < before
    await running.planned(others + sum(map(int, wanted.values())))
    await running.api.delete(PODS, "high", namespace="default")
    await running.create_vms(before - others)
    await running.running(before)


async def a_node_comes_and_goes(running: Installed) -> None:
    """Let an agent announce itself on a Node that is removed before it has reported anything."""
    lease = {"metadata": {"name": keys.lease_name("ghost"), "labels": {keys.AGENT_LABEL: "true"}}}
    await running.api.create(NODES, {"metadata": {"name": "ghost"}})
    await running.api.create(LEASES, lease, namespace=keys.SYSTEM_NAMESPACE)

    async def known() -> bool:
        return "ghost" in {node.name for node in await running.gpu_nodes()}

    async def unknown() -> bool:
        return not await known()

    await until(known, within=60, every=0.2)
    await running.api.delete(NODES, "ghost")
    await until(unknown, within=60, every=0.2)


async def a_pod_loses_its_label(running: Installed) -> None:
    """Take the label off a running VM, whose place stays its own."""
    name = (await running.pods())[-1]["metadata"]["name"]
    gone = {"metadata": {"labels": {keys.MANAGED_LABEL: None}}}
    await running.api.patch(PODS, name, gone, patch_type=PatchType.MERGE, namespace="default")


async def a_policy_is_refused(running: Installed) -> None:
    """Let the policy's file be wrong until the extender has said so on its own pod."""
    good = running.policy.read_text()

    def put(text: str) -> None:
        """Replace the file at once, as the kubelet does."""
        new = running.policy.with_suffix(".new")
        new.write_text(text)
        new.replace(running.policy)

    async def why() -> list[str]:
        found = (await running.api.list(EVENTS, namespace=keys.SYSTEM_NAMESPACE)).items
        events = [json.loads(raw) for raw in found]
        return [
            event["message"]
            for event in events
            if event["reason"] == "PolicyRefused"
            and event["involvedObject"]["name"] == "tangram-extender-0"
        ]

    put(good + "headroom: plenty\n")
    await until(why, within=60, every=0.2)
    assert all("$.headroom" in text for text in await why())
    put(good)


async def metrics_are_read(running: Installed) -> None:
    """Ask for the metrics by an account that has their role, and by one that has none."""
    installer = Installer(running.plane, running.session)
    trust = ssl.create_default_context(cafile=running.plane.ca_file)
    account = {"name": "prometheus", "namespace": keys.SYSTEM_NAMESPACE}
    await installer.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
    await installer.apply(
        {
            "apiVersion": RBAC,
            "kind": "ClusterRoleBinding",
            "metadata": {"name": METRICS_READER},
            "roleRef": {
                "apiGroup": RBAC.partition("/")[0],
                "kind": "ClusterRole",
                "name": METRICS_READER,
            },
            "subjects": [{"kind": "ServiceAccount"} | account],
        }
    )

    async def read(http: aiohttp.ClientSession, token: str) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with http.get(f"{running.desk}/metrics", ssl=trust, headers=headers) as answer:
            return answer.status, await answer.text()

    async with aiohttp.ClientSession() as http:
        reader = await installer.token("prometheus")

        async def told() -> bool:
            return (await read(http, reader))[0] == 200

        # What was refused before the API server had heard of the binding is kept for half a minute.
        await until(told, within=90, every=0.5)
        assert "\ntangram_" in (await read(http, reader))[1]
        forbidden, text = await read(http, await installer.token("tangram-extender"))
        assert (forbidden, "nonResourceURLs" in text) == (403, True)
        assert [(await read(http, token))[0] for token in ("", "guessed")] == [401, 401]


async def a_drain_is_planned(running: Installed, leaving: Collection[str]) -> None:
    """Ask how the node of these VMs, the only ones there are, would be drained.

    Nothing is there of what is said to have made them, which is looked up.
    """
    await running.running(len(leaving))
    await running.planned(len(leaving))
    node = (await running.pods())[0]["spec"]["nodeName"]
    trust = ssl.create_default_context(cafile=running.plane.ca_file)
    # Whoever may list GpuNodes may ask.
    token = await Installer(running.plane, running.session).token("tangram-extender")
    headers, query = {"Authorization": f"Bearer {token}"}, {"drain": node}
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{running.desk}{MOVES}", params=query, ssl=trust, headers=headers) as answer,
    ):
        assert answer.status == 200, await answer.text()
        found = (await answer.json())["obstacles"]
    assert {each["vm"]["kind"]: each["why"] for each in found} == dict.fromkeys(
        OWNERS, NOBODY_MAKES_IT
    )


async def unused(running: Installed) -> Mapping[str, frozenset[Grant]]:
    """Return by account what its roles allow it and it has not used, in a minute and a half more.

    Of a pod without the label the end is looked for twice a minute.
    """

    def still() -> dict[str, frozenset[Grant]]:
        left = {account: running.unused(account) for account in running.accounts}
        return {account: grants for account, grants in left.items() if grants}

    with contextlib.suppress(TimeoutError):
        await until(lambda: not still(), within=90, every=0.5)
    return still()
