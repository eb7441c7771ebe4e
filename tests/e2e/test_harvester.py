"""Tangram on Harvester 1.7 and 1.8: real control plane, real extender and agents.

Harvester's scan comes every 2 s here, every 30 s there; all other time is the clock's.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from extender.cli.harvester import provided
from nodeagent.api import keys
from nodeagent.apiserver.protocol import GPU_NODES, PatchType
from tests.e2e.deployed import EXTENDER, SCHEDULER
from tests.e2e.harvester.by_hand import by_hand, given_up, hand_made_vm, handed_back
from tests.e2e.harvester.cluster import Cluster
from tests.e2e.harvester.judge import violations
from tests.e2e.harvester.nodes import Killed
from tests.e2e.harvester.place import place
from tests.e2e.harvester.site import site
from tests.e2e.harvester.tangram import AGENT, beside, installed, ready, reported
from tests.e2e.stack import artifacts
from tests.fakes.pcidevices import log as deeds
from tests.fakes.pcidevices.names import Version
from tests.manifests.calls import Permission
from tests.manifests.kustomize import overlay
from tests.manifests.roles import granted

SCAN_SECONDS = 2.0
CREATE = "nvmlDeviceCreateGpuInstance"
MIX = (19, 19, 19, 19, 14, 14, 9)
"""Profiles that VMs ask for: small ones more often."""

UNUSED: Mapping[str, Mapping[Permission, str]] = {
    EXTENDER: {
        ("", "events", "create"): "its policy is never refused",
        ("apps", "replicasets", "get"): "all pods are launchers, whose VMs it asks after",
        ("apps", "statefulsets", "get"): "all pods are launchers, whose VMs it asks after",
        ("authentication.k8s.io", "tokenreviews", "create"): "nobody reads its metrics",
        ("authorization.k8s.io", "subjectaccessreviews", "create"): "nobody reads its metrics",
        ("tangram.dev", "gpunodes", "delete"): "no node goes",
    },
    SCHEDULER: {},
    AGENT: {
        ("", "events", "create"): "no GPU fails under a VM",
        ("", "pods", "get"): "no GPU fails under a VM",
    },
}
"""What an account may do and does not in the run, and why: other tests have it done."""

each_version = pytest.mark.parametrize("version", list(Version), ids=str)


def refused(running: Cluster) -> list[str]:
    """Return what Harvester's webhooks have refused to anybody."""
    return [f"{it.actor}: {it.subject}: {it.detail}" for it in running.log.of(deeds.REFUSED)]


@each_version
async def test_sixty_vms_come_and_go_over_six_nodes(tmp_path: Path, version: Version) -> None:
    """Each has the GPU instance that was planned for it, or, of a kept device, that is recorded."""
    chance = random.Random(6)
    directory = artifacts(tmp_path)
    async with installed(directory, version, nodes=6, scan_seconds=SCAN_SECONDS, elects=True) as (
        running,
        tangram,
    ):
        names = [f"vm-{n:02}" for n in range(60)]
        wanted = {name: chance.choice(MIX) for name in names}
        alive: list[str] = []
        for wave in range(0, 60, 15):
            fresh = names[wave : wave + 15]
            for name in fresh:
                await running.create(name, wanted[name])
            alive += fresh
            await running.settled(*alive)
            assert await violations(running) == []
            assert len(await running.running()) >= 0.9 * len(alive)
            gone = chance.sample(alive, 6)
            for name in gone:
                await running.delete(name)
            stopped = chance.sample([name for name in alive if name not in gone], 2)
            for name in stopped:
                await running.run(name, "Halted")
            alive = [name for name in alive if name not in gone]
            await running.gone(*gone, *stopped)
            await running.quiet()
            assert await violations(running) == []
            for name in stopped:
                await running.run(name, "Always")
            await running.settled(*alive)
        assert await violations(running) == []

        for name in alive:
            await running.delete(name)
        await running.gone(*alive)
        await running.empty()
        assert await violations(running) == []
        for node in running.nodes.values():
            assert node.host.machine.calls(CREATE) == []  # without a placement
            assert node.host.machine.calls(f"{CREATE}WithPlacement")
        assert running.witness.rejected == []
        assert refused(running) == []
        assert tangram.refusals() == {}
        for account, reasons in UNUSED.items():
            unused = granted(overlay("harvester"), account) - tangram.asked(account).keys()
            assert unused == reasons.keys(), account


@each_version
async def test_a_node_reboots_and_every_vm_has_a_vgpu_again(
    tmp_path: Path, version: Version
) -> None:
    async with installed(
        artifacts(tmp_path), version, nodes=2, gpus=1, scan_seconds=SCAN_SECONDS
    ) as (running, _):
        names = ["vm-1", "vm-2", "vm-3", "vm-4"]
        for name, profile in zip(names, (19, 19, 14, 9), strict=True):
            await running.create(name, profile)
        await running.all_run(*names)
        await running.run("vm-2", "Halted")
        await running.gone("vm-2")
        await running.quiet()

        await running.nodes["node-1"].reboot()
        await running.nodes["node-2"].reboot()
        await running.all_run("vm-1", "vm-3", "vm-4")
        await running.run("vm-2", "Always")
        await running.all_run(*names)
        await running.quiet()

        assert await violations(running) == []


@each_version
async def test_agents_and_controllers_are_killed_while_vms_come_and_go(
    tmp_path: Path, version: Version
) -> None:
    """Controllers at a step of their own, the moment they come to it; agents at any moment."""
    chance = random.Random(9)
    async with installed(
        artifacts(tmp_path), version, nodes=2, gpus=1, scan_seconds=SCAN_SECONDS
    ) as (running, _):
        deadly = chance.choices(range(4, 40), k=60)
        count = 0

        def step(name: str) -> None:
            nonlocal count
            count += 1
            if deadly and count >= deadly[-1]:
                deadly.pop()
                count = 0
                raise Killed(name)

        for node in running.nodes.values():
            node.step = step
        names = [f"vm-{n}" for n in range(8)]
        for n, name in enumerate(names):
            await running.create(name, 19)
            if n % 2:
                node = running.nodes[f"node-{1 + n // 2 % 2}"]
                await node.agent.stop(signal.SIGKILL)
                await node.agent.start()
        await running.all_run(*names)
        for name in names[::2]:
            await running.delete(name)
        for node in running.nodes.values():
            await node.agent.stop(signal.SIGKILL)
            await node.agent.start()
        await running.gone(*names[::2])
        deadly.clear()
        await running.all_run(*names[1::2])

        assert sum(node.crashes for node in running.nodes.values()) >= 3
        assert await violations(running) == []
        for name in names[1::2]:
            await running.delete(name)
        await running.empty()


@each_version
async def test_what_runs_already_is_adopted_and_handed_back(
    tmp_path: Path, version: Version
) -> None:
    """Day 0: a GPU cut by hand serves a VM; another one is left to Tangram, and taken back."""
    directory = artifacts(tmp_path)
    async with (
        site(directory, version, nodes=1, scan_seconds=SCAN_SECONDS) as (running, audit),
        beside(running, directory, audit) as tangram,
    ):
        node = running.nodes["node-1"]
        first, second = node.host.gpus
        await running.plane.start_scheduler({})
        await by_hand(running, "node-1", first, {19: 2})
        before = await hand_made_vm(running, "old", 19)
        vgpus = node.host.kernel.vgpus()

        await tangram.install("--manage=none")
        await reported(running)
        await choose(running, second)
        async for _ in provided(running.api):
            pass
        await running.create("new", 14)
        await running.all_run("new")
        await running.quiet()

        launchers = await running.launchers()
        assert launchers["old"]["metadata"]["uid"] == before
        assert [each for each in node.host.kernel.vgpus() if each.gpu == 0] == vgpus
        made = place(node.host, *node.launchers.devices(launchers["new"]["metadata"]["uid"]))
        assert made[0] == node.host.machine.uuids[1]
        plan = (await running.gpu_nodes())["node-1"].spec.assignments
        assert {each.pod.name for each in plan if each.pod} == {
            pod["metadata"]["name"] for pod in launchers.values()
        }
        assert await violations(running) == []

        await running.delete("new")
        await running.gone("new")
        await choose(running, "none")
        await handed_back(running, "node-1", second)
        await running.quiet()
        assert await violations(running) == []
        await node.agent.stop()
        await running.quiet()

        launchers = await running.launchers()
        assert launchers["old"]["metadata"]["uid"] == before
        assert launchers["old"]["status"]["phase"] == "Running"
        assert node.host.machine.gpu_instances(1) == []
        assert [each for each in node.host.kernel.vgpus() if each.gpu == 0] == vgpus
        await by_hand(running, "node-1", second, {9: 1})  # and Harvester has it again
        assert running.witness.rejected == []
        assert refused(running) == []


@pytest.mark.parametrize(
    ("version", "journal"), [(Version.V1_7, "kept"), (Version.V1_8, "lost")], ids=str
)
async def test_it_is_uninstalled_beside_a_running_vm_and_installed_again(
    tmp_path: Path, version: Version, journal: str
) -> None:
    """The VM is adopted, with an agent's journal and without; until then its GPU is Harvester's."""
    async with installed(
        artifacts(tmp_path), version, nodes=1, gpus=1, scan_seconds=SCAN_SECONDS / 2
    ) as (running, tangram):
        node = running.nodes["node-1"]
        (address,) = node.host.gpus
        await running.create("vm", 19)
        await running.all_run("vm")
        launcher = (await running.launchers())["vm"]["metadata"]["uid"]
        there = node.host.machine.gpu_instances(0), node.host.kernel.vgpus()

        async def untouched() -> None:
            """See that the VM runs as ever, after some scans of Harvester's."""
            await running.quiet()
            pod = (await running.launchers())["vm"]
            assert (pod["metadata"]["uid"], pod["status"]["phase"]) == (launcher, "Running")
            assert (node.host.machine.gpu_instances(0), node.host.kernel.vgpus()) == there

        await tangram.uninstall()
        await untouched()
        if journal == "lost":
            node.lose_journal()
        await tangram.install()
        await ready(running)
        await untouched()
        (entry,) = (await running.gpu_nodes())["node-1"].spec.assignments
        assert entry.pod is not None
        assert entry.pod.uid == launcher
        await running.create("beside", 14)  # on the same GPU
        await running.all_run("beside")
        assert await violations(running) == []
        await running.delete("vm")
        await running.delete("beside")
        await running.gone("vm", "beside")
        await running.empty()

        await running.create("last", 19)
        await running.all_run("last")
        await tangram.uninstall()
        await running.delete("last")
        await running.gone("last")
        await given_up(running, "node-1", address)
        await by_hand(running, "node-1", address, {9: 1})  # Harvester has it again
        assert running.witness.rejected == []
        assert refused(running) == []


async def choose(running: Cluster, gpus: str) -> None:
    """Say which GPUs of the first node are Tangram's."""
    patch = {"metadata": {"annotations": {keys.GPUS_ANNOTATION: gpus}}}
    await running.api.patch(GPU_NODES, "node-1", patch, patch_type=PatchType.MERGE)
