"""The installation for trials works, is shut to whom it should be, and does no more than it may."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import yaml

from nodeagent.api import gpunode, keys, resources
from nodeagent.apiserver.protocol import GPU_NODES, PODS
from tests.e2e.process import ROOT
from tests.e2e.running import ACCOUNTS, installed, vm
from tests.e2e.stack import artifacts
from tests.manifests.calls import Permission
from tests.manifests.kustomize import overlay
from tests.manifests.roles import granted

VMS = 100

RARELY: Mapping[str, frozenset[Permission]] = {
    # After a lost write, for a pod that is not labelled, and when a node's GPUs are gone for good;
    # owners are asked about where there are any.
    "tangram-extender": frozenset(
        {
            (keys.GROUP, "gpunodes", "get"),
            (keys.GROUP, "gpunodes", "delete"),
            ("", "pods", "get"),
            ("apps", "replicasets", "get"),
            ("apps", "statefulsets", "get"),
            ("kubevirt.io", "virtualmachines", "get"),
        }
    ),
    "tangram-simulated-agent": frozenset(),
}
"""What may stay unused in a run in which nothing goes wrong."""


async def _tangram(*arguments: str) -> str:
    """Run a command of ``tangram``'s, and return what it prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "extender", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    out, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors.decode()
    return out.decode()


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

        for forbidden in ({"nodeName": "tangram-simulated-0"}, {"schedulerName": "theirs"}):
            status, answer = await running.create(vm() | {"spec": vm()["spec"] | forbidden})
            assert (status, "vGPU: a pod that asks for" in answer["message"]) == (403, True)

        kubeconfig = ("--kubeconfig", str(running.plane.kubeconfig("admin")))
        printed = await _tangram("scheduler-config", *kubeconfig)
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
        assert "nothing is wrong" in await _tangram(
            "scheduler-config", "--check", str(file), *kubeconfig
        )


async def test_a_hundred_vms_come_and_go_under_the_roles_and_policies_that_are_installed(
    tmp_path: Path,
) -> None:
    async with installed(artifacts(tmp_path)) as running:
        await running.create_vms(VMS)
        await running.running(VMS)
        await running.planned(VMS)
        leaving = (await running.pods())[: VMS // 2]
        for pod in leaving:
            await running.api.delete(PODS, pod["metadata"]["name"], namespace="default")
        await running.running(VMS - len(leaving))
        await running.planned(VMS - len(leaving))
        asked = {account: running.asked(account) for account in ACCOUNTS}

    for account in ACCOUNTS:
        refused = {what for what, statuses in asked[account].items() if statuses & {401, 403}}
        assert asked[account]
        assert not refused, account
    for account, rarely in RARELY.items():
        assert granted(overlay("dev"), account) - asked[account].keys() - rarely == set(), account
