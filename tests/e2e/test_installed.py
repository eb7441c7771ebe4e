"""The installation for trials works, is shut to whom it should be, and does no more than it may."""

from __future__ import annotations

import contextlib
import json
import ssl
from pathlib import Path

import aiohttp
import yaml

from nodeagent.api import gpunode, keys, resources
from nodeagent.apiserver.protocol import EVENTS, GPU_NODES, LEASES, NODES, PODS, PatchType
from tests.e2e.controlplane.certificates import Authority
from tests.e2e.deployed import CLIENT, tangram
from tests.e2e.installation import Installer
from tests.e2e.running import ACCOUNTS, Installed, installed, vm
from tests.e2e.stack import artifacts
from tests.manifests.calls import Permission
from tests.manifests.kustomize import overlay
from tests.manifests.roles import granted
from tests.waiting import until

VMS = 100
WHOLE_GPU = "nvidia.com/NVIDIA_H100XM-7-80C"
RBAC = "rbac.authorization.k8s.io/v1"
METRICS_READER = "tangram-metrics-reader"

OWNERS = {
    "ReplicaSet": "apps/v1",
    "StatefulSet": "apps/v1",
    "VirtualMachineInstance": "kubevirt.io/v1",
}
"""Whose pods are asked after when they end: whether there will be another."""


async def _refused(hooks: str, trust: ssl.SSLContext) -> int:
    """Ask for a bind; return the status of the answer, 0 where the door stays shut."""
    async with aiohttp.ClientSession() as http:
        try:
            async with http.post(f"{hooks}/bind", data=b"{}", ssl=trust) as answer:
                return answer.status
        except aiohttp.ClientError:
            return 0


async def test_it_is_shut_to_all_but_the_scheduler_which_is_told_what_the_gpus_offer(
    tmp_path: Path,
) -> None:
    async with installed(artifacts(tmp_path)) as running:
        authority, ca = running.plane.authority, running.plane.ca_file
        nobody = ssl.create_default_context(cafile=ca)
        another = ssl.create_default_context(cafile=ca)
        pair = authority.issue("somebody-else")
        another.load_cert_chain(pair.public, pair.key)
        assert await _refused(running.hooks, nobody) == 0
        assert await _refused(running.hooks, another) == 403
        foreign = ssl.create_default_context(cafile=ca)
        (tmp_path / "foreign").mkdir()
        pair = Authority(tmp_path / "foreign").issue(CLIENT)  # the right name, by nobody we know
        foreign.load_cert_chain(pair.public, pair.key)
        assert await _refused(running.hooks, foreign) == 0

        for forbidden in ({"nodeName": "tangram-simulated-0"}, {"schedulerName": "theirs"}):
            status, answer = await running.create(vm() | {"spec": vm()["spec"] | forbidden})
            assert (status, "vGPU: a pod that asks for" in answer["message"]) == (403, True)

        kubeconfig = ("--kubeconfig", str(running.plane.kubeconfig("admin")))
        printed = await tangram("scheduler-config", *kubeconfig)
        (entry,) = yaml.safe_load(printed)["extenders"]
        names = {each["name"] for each in entry["managedResources"]}
        (node, *_) = (await running.api.list(GPU_NODES)).items
        status = gpunode.decode(node).status
        assert names == {
            resource
            for types in status.vgpu_types.values()
            for each in types
            for resource in resources.of_vgpu_type(each.name)
        }
        file = tmp_path / "scheduler.yaml"
        file.write_text(printed)
        assert "nothing is wrong" in await tangram(
            "scheduler-config", "--check", str(file), *kubeconfig
        )


async def a_vm_of_high_priority_makes_room(running: Installed) -> None:
    """Let a VM that finds no room preempt some of the running ones, and end; make up for these."""
    high = {"metadata": {"name": "high"}, "value": 1000}
    path = "/apis/scheduling.k8s.io/v1/priorityclasses"
    async with running.session.post(path, json=high) as answer:
        assert answer.status == 201, await answer.text()
    pod = vm()
    pod["metadata"] |= {"name": "high"}
    pod["spec"] |= {"priorityClassName": "high"}
    pod["spec"]["containers"][0]["resources"] = {"limits": {WHOLE_GPU: "3"}}
    status, made = await running.create(pod)
    assert status == 201, made

    async def placed() -> bool:
        pods = {pod["metadata"]["name"]: pod for pod in await running.pods()}
        return pods["high"]["status"]["phase"] == "Running"

    await until(placed, within=60, every=0.2)
    others = len(await running.pods()) - 1
    assert VMS - 3 * 7 <= others < VMS
    await running.planned(others + 3)
    await running.api.delete(PODS, "high", namespace="default")
    await running.create_vms(VMS - others)
    await running.running(VMS)


async def owned(running: Installed) -> list[str]:
    """Create a VM for each kind of owner; return their names."""
    names = []
    for kind, version in OWNERS.items():
        owner = {"apiVersion": version, "kind": kind, "name": "x", "uid": kind, "controller": True}
        metadata = vm()["metadata"] | {"ownerReferences": [owner]}
        status, pod = await running.create(vm() | {"metadata": metadata})
        assert status == 201, pod
        names.append(pod["metadata"]["name"])
    return names


async def names(running: Installed) -> set[str]:
    """Return the VMs' names."""
    return {pod["metadata"]["name"] for pod in await running.pods()}


async def a_node_comes_and_goes(running: Installed) -> None:
    """Let an agent announce itself on a Node that is removed before it has reported anything."""
    lease = {"metadata": {"name": keys.lease_name("ghost"), "labels": {keys.AGENT_LABEL: "true"}}}
    await running.api.create(NODES, {"metadata": {"name": "ghost"}})
    await running.api.create(LEASES, lease, namespace=keys.SYSTEM_NAMESPACE)

    async def known() -> bool:
        nodes = [gpunode.decode(raw) for raw in (await running.api.list(GPU_NODES)).items]
        return "ghost" in {node.name for node in nodes}

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


async def test_a_hundred_vms_come_and_go_under_exactly_the_roles_that_are_installed(
    tmp_path: Path,
) -> None:
    async with installed(artifacts(tmp_path)) as running:
        leaving = await owned(running)
        await running.create_vms(VMS - len(leaving))
        await running.running(VMS)
        await running.planned(VMS)
        await a_vm_of_high_priority_makes_room(running)
        leaving = [each for each in leaving if each in await names(running)]
        leaving += [pod["metadata"]["name"] for pod in (await running.pods())[: VMS // 2]]
        for name in set(leaving):
            await running.api.delete(PODS, name, namespace="default")
        staying = VMS - len(set(leaving))
        await running.running(staying)
        await running.planned(staying)
        await a_node_comes_and_goes(running)
        await a_pod_loses_its_label(running)
        await a_policy_is_refused(running)
        await metrics_are_read(running)

        def unused(account: str) -> frozenset[Permission]:
            return granted(overlay("dev"), account) - running.asked(account).keys()

        for account in ACCOUNTS:
            # Of a pod without the label the end is looked for twice a minute.
            with contextlib.suppress(TimeoutError):
                await until(lambda account=account: not unused(account), within=90, every=0.5)
            assert unused(account) == set(), account
        await running.planned(staying)
        assert running.refusals() == {}
