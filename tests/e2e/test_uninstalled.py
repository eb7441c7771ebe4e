"""Uninstalling on plain Kubernetes, by the commands of the README, word for word, while VMs run."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from nodeagent.api import keys
from nodeagent.api.gpunode import Mode
from nodeagent.apiserver.protocol import NODES, PODS
from tests.e2e import documented
from tests.e2e.harvester.place import decided
from tests.e2e.installation import CERT_MANAGER_CRDS
from tests.e2e.running import Installed, installed
from tests.e2e.stack import artifacts
from tests.e2e.vgpus import MEDIUM, SMALL, WHOLE, VgpuGpus, Vms, permit, permit_nothing
from tests.fakes.pcidevices.host import CommandFailed
from tests.waiting import until

WANTED = {
    "two": (SMALL, SMALL),
    "medium": (MEDIUM,),
    **{f"whole-{n}": (WHOLE,) for n in range(4)},
    **{f"small-{n}": (SMALL,) for n in range(6)},
}
"""More than one node has room for."""
OURS = "tangram.dev/"
STAY = {
    "labels of pods": {keys.MANAGED_LABEL},
    "annotations of pods": {keys.DECISION_ANNOTATION},
    "labels of nodes": {"tangram.dev/gpu-node"},
    "annotations of nodes": set(),
}
"""What is said to stay on others' objects, and means nothing to anybody."""


class Administrator:
    """Who follows the README."""

    def __init__(self, running: Installed, overlay: str, home: Path) -> None:
        self._running = running
        self._overlay = overlay
        self._home = home

    async def runs(self, command: str) -> str:
        """Run a command, and return what it prints."""
        plane = self._running.plane
        return await documented.ran(plane, command, overlay=self._overlay, home=self._home)

    async def named(self, part: str) -> list[str]:
        """Return every object of the cluster that has *part* in its name, or its kind's."""
        kinds = await self.runs("kubectl api-resources --verbs=list --output=name")
        found = await self.runs(f"kubectl get {','.join(kinds.split())} -A --output=name")
        return [each for each in found.splitlines() if part in each]


async def pods_can_be_created(running: Installed, trial: Mapping[str, Any]) -> None:
    """Wait until nobody refuses a pod that asks for a vGPU, or makes it Tangram's."""

    async def created() -> bool:
        path = "/api/v1/namespaces/default/pods?dryRun=All"
        async with running.session.post(path, json=trial) as answer:
            made = await answer.json()
            return answer.status == 201 and keys.MANAGED_LABEL not in made["metadata"]["labels"]

    await until(created, within=60, every=0.2)


async def programs_end(running: Installed, gpus: VgpuGpus) -> None:
    """Do what kubelets do of Tangram's programs, whose workloads are deleted; wait for the pods."""
    for agent in gpus.agents.values():
        await agent.stop(signal.SIGTERM)
    await running.plane.stop_scheduler()
    await running.extender.stop(signal.SIGTERM)
    for raw in await running.listed(PODS, keys.SYSTEM_NAMESPACE):
        if raw["spec"].get("nodeName"):
            await running.api.delete(
                PODS, raw["metadata"]["name"], namespace=keys.SYSTEM_NAMESPACE, grace_seconds=0
            )

    async def gone() -> bool:
        return not await running.listed(PODS, keys.SYSTEM_NAMESPACE)

    await until(gone, within=60, every=0.2)


def on(objects: Iterable[Mapping[str, Any]], what: str) -> set[str]:
    """Return the keys of Tangram's among *objects*' labels or annotations."""
    return {key for each in objects for key in each["metadata"].get(what, {}) if OURS in key}


async def uninstalled(running: Installed, gpus: VgpuGpus, administrator: Administrator) -> None:
    """Uninstall it step by step: each command ends well, and is not held up by anything."""
    keep_out, programs, others = documented.deletions()
    await administrator.runs(keep_out)
    await pods_can_be_created(running, gpus.trial())
    await administrator.runs(programs)
    await programs_end(running, gpus)
    await administrator.runs(others)
    await permit_nothing(running.place)


async def left_behind_by(vm: str, vms: Vms, gpus: VgpuGpus) -> Callable[[], None]:
    """Return what removes a VM's leavings by hand, as the README has it, once it has ended."""
    pod = (await vms.launchers())[vm]
    node = gpus.there[pod["spec"]["nodeName"]]
    (function,) = node.launchers.devices(pod["metadata"]["uid"])
    assert function in {entry["vgpu"]["id"] for entry in node.record}

    def remove() -> None:
        vgpu = node.host.vgpu(function)
        assert vgpu is not None
        with pytest.raises(CommandFailed, match="In use"):  # by its vGPU, which nobody has open
            node.host.destroy_instance(vgpu.gpu, vgpu.gi_id)
        node.host.remove_vgpu(function, "")
        node.host.destroy_instance(vgpu.gpu, vgpu.gi_id)

    return remove


async def test_vms_run_on_and_nothing_stays_but_what_is_said_to(tmp_path: Path) -> None:
    directory, gpus = artifacts(tmp_path), VgpuGpus(tmp_path / "nodes", Mode.VGPU_VFIO)
    async with installed(directory, gpus) as running:
        await running.place.installer.define(CERT_MANAGER_CRDS)
        administrator, vms = Administrator(running, gpus.overlay, directory), Vms(running, gpus)
        for name, resources in WANTED.items():
            await vms.create(name, *resources)
        await vms.all_well(WANTED)
        before = await vms.launchers()

        async def untouched(*names: str) -> None:
            """See that VMs run as ever, where they were."""
            now = await vms.launchers()
            for name in names:
                pod, uid = now[name], before[name]["metadata"]["uid"]
                assert (pod["metadata"]["uid"], pod["status"]["phase"]) == (uid, "Running")
                assert gpus.places(pod) == decided(pod)

        assert await administrator.named("tangram")
        # It makes an end of what the workloads own, and of namespaces.
        await running.plane.start_controller_manager()
        held = {name: node.held for name, node in gpus.there.items()}
        await uninstalled(running, gpus, administrator)
        assert await administrator.named("tangram") == []
        assert {name: node.held for name, node in gpus.there.items()} == held
        await untouched(*WANTED)
        pods, nodes = await running.pods(), await running.listed(NODES)
        assert {
            "labels of pods": on(pods, "labels"),
            "annotations of pods": on(pods, "annotations"),
            "labels of nodes": on(nodes, "labels"),
            "annotations of nodes": on(nodes, "annotations"),
        } == STAY

        # VMs end as they ever did, and leave what they had.
        remove_the_rest = await left_behind_by("small-0", vms, gpus)
        await vms.delete("small-0")
        await vms.gone("small-0")
        remove_the_rest()

        # Installed again, it places VMs beside those that still run, and clears up after them.
        await running.install_again(gpus.start_again)
        await permit(running.place)
        await vms.create("late", MEDIUM)
        await running.running(len(WANTED))
        late = (await vms.launchers())["late"]
        assert gpus.places(late) == decided(late)
        left = [name for name in WANTED if name != "small-0"]
        await untouched(*left)
        await vms.delete(*left, "late")
        await vms.nothing_is_left()
        assert [each for node in gpus.there.values() for each in node.amiss] == []
