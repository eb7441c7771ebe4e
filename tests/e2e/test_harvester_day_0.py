"""Tangram comes to a Harvester cluster whose GPUs are in use, and goes from one."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import pytest

from nodeagent.api import keys
from nodeagent.apiserver.protocol import GPU_NODES, PatchType
from tests.e2e.harvester.by_hand import (
    by_hand,
    given_up,
    hand_made_vm,
    handed_back,
    out_of_sync,
)
from tests.e2e.harvester.cluster import Cluster
from tests.e2e.harvester.endings import CREATE
from tests.e2e.harvester.judge import violations
from tests.e2e.harvester.nodes import Node
from tests.e2e.harvester.place import decided, place
from tests.e2e.harvester.site import site
from tests.e2e.harvester.tangram import beside, bootstrapped, installed, ready, reported
from tests.e2e.stack import artifacts
from tests.fakes.pcidevices.names import VGPUS, Version
from tests.waiting import until

SCAN_SECONDS = 2.0


@pytest.mark.parametrize("version", list(Version), ids=str)
async def test_what_runs_already_is_adopted_and_handed_back(
    tmp_path: Path, version: Version
) -> None:
    """Day 0: a GPU cut by hand serves VMs; another one is left to Tangram, and taken back."""
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
        await running.create("static", 19)
        await running.all_run("static")
        await running.quiet()

        # It has the instance that was made by hand and that nobody used, and the plan says so.
        pod = (await running.launchers())["static"]
        given = place(node.host, *node.launchers.devices(pod["metadata"]["uid"]))
        assert given[:2] == (node.host.machine.uuids[0], 19)
        assert decided(pod) == Counter([given])
        assert await violations(running) == []
        await running.delete("static")
        await running.gone("static")
        await running.quiet()
        assert node.host.kernel.vgpus() == vgpus
        assert await enabled(running, first) == 2  # it stays for the next one
        assert not node.host.machine.calls(CREATE)

        await choose(running, second)
        await bootstrapped(running)
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

        await out_of_sync(running, "node-1", second)
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
        assert running.refused == []


@pytest.mark.parametrize("version", list(Version), ids=str)
async def test_where_it_may_use_every_gpu_those_cut_by_hand_stay_as_they_are(
    tmp_path: Path, version: Version
) -> None:
    """Two nodes; a VM runs on a GPU cut by hand, another one is off and keeps its device there."""
    directory = artifacts(tmp_path)
    async with (
        site(directory, version, nodes=2, scan_seconds=SCAN_SECONDS) as (running, audit),
        beside(running, directory, audit) as tangram,
    ):
        node = running.nodes["node-1"]
        first, _ = node.host.gpus
        await running.plane.start_scheduler({})
        await by_hand(running, "node-1", first, {19: 2})
        before = await hand_made_vm(running, "old", 19)
        await hand_made_vm(running, "off", 19)
        await running.noted("old", "off")
        await running.run("off", "Halted")
        await running.gone("off")
        there = node.host.machine.gpu_instances(0), shown(node, 0)

        await tangram.install()
        await reported(running)
        await cut_anew(running, except_for=node.host.machine.uuids[0])
        await bootstrapped(running)
        names = {"one": 9, "two": 14, "three": 0}
        for name, profile in names.items():
            await running.create(name, profile)
        await running.all_run(*names)
        await running.run("off", "Always")
        await running.all_run("off")
        await running.quiet()

        launchers = await running.launchers()
        assert launchers["old"]["metadata"]["uid"] == before
        assert await violations(running) == []
        was = await running.place("old")
        assert {await running.place(name) for name in ("old", "off")} == {
            (node.host.machine.uuids[0], 19, each.placement.start) for each in there[0]
        }
        assert decided(launchers["off"]) == Counter([await running.place("off")])

        await running.run("old", "Halted")
        await running.gone("old")
        await running.quiet()
        await running.run("old", "Always")
        await running.all_run("old")
        await running.quiet()

        assert await running.place("old") == was
        assert await violations(running) == []
        for name in names:
            await running.delete(name)
        await running.gone(*names)
        await running.quiet()
        assert (node.host.machine.gpu_instances(0), shown(node, 0)) == there
        assert running.witness.rejected == []
        assert running.refused == []


@pytest.mark.parametrize(
    ("version", "journal"), list(itertools.product(Version, ("kept", "lost"))), ids=str
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

        await choose(running, "none")
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
        await out_of_sync(running, "node-1", address)
        await choose(running, "none")
        await tangram.uninstall()
        await running.delete("last")
        await running.gone("last")
        await given_up(running, "node-1", address)
        await by_hand(running, "node-1", address, {9: 1})  # Harvester has it again
        assert running.witness.rejected == []
        assert running.refused == []


def shown(node: Node, gpu: int) -> set[tuple[int, int]]:
    """Return which virtual functions of a GPU have a vGPU, and in which GPU instance."""
    return {(each.function, each.gi_id) for each in node.host.kernel.vgpus() if each.gpu == gpu}


async def enabled(running: Cluster, address: str) -> int:
    """Return how many VGPUDevices of a GPU of the first node are enabled."""
    return sum(
        each["spec"]["enabled"]
        for each in await running.listed(VGPUS)
        if (each["spec"]["nodeName"], each["spec"]["parentGPUDeviceAddress"]) == ("node-1", address)
    )


async def cut_anew(running: Cluster, *, except_for: str) -> None:
    """Wait until every GPU but one takes GPU instances."""

    async def well() -> bool:
        return all(
            gpu.uuid == except_for or not gpu.unhealthy
            for node in (await running.gpu_nodes()).values()
            for gpu in node.status.gpus
        )

    await until(well, within=120, every=0.2)


async def choose(running: Cluster, gpus: str) -> None:
    """Say which GPUs of the first node are Tangram's."""
    patch = {"metadata": {"annotations": {keys.GPUS_ANNOTATION: gpus}}}
    await running.api.patch(GPU_NODES, "node-1", patch, patch_type=PatchType.MERGE)
