"""Uninstalling on plain Kubernetes, by the commands of the README, word for word, while VMs run."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from nodeagent.api import keys
from nodeagent.api.gpunode import Mode
from nodeagent.apiserver.protocol import NODES, PODS, PatchType
from tests.e2e import documented
from tests.e2e.installation import CERT_MANAGER_CRDS, Installer
from tests.e2e.running import Installed, installed
from tests.e2e.stack import artifacts
from tests.e2e.test_kubevirt_overlay import MEDIUM, SMALL, WHOLE, all_well
from tests.e2e.vgpus import NAME, NAMESPACE, VgpuGpus, Vms
from tests.fakes.pcidevices.host import CommandFailed
from tests.fakes.pcidevices.names import KUBEVIRTS
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


async def test_vms_run_on_and_nothing_stays_but_what_is_said_to(tmp_path: Path) -> None:
    directory, gpus = artifacts(tmp_path), VgpuGpus(tmp_path / "nodes", Mode.VGPU_VFIO)
    keep_out, programs, others = documented.deletions()
    async with installed(directory, gpus) as running:
        await Installer(running.plane, running.session).define(CERT_MANAGER_CRDS)
        administrator, vms = Administrator(running, gpus.overlay, directory), Vms(running, gpus)
        for name, resources in WANTED.items():
            await vms.create(name, *resources)
        await all_well(running, vms, WANTED)
        launchers = await vms.launchers()
        held = {name: node.held for name, node in gpus.there.items()}
        assert await administrator.named("tangram")
        # It makes an end of what the workloads own, and of namespaces.
        await running.plane.start_controller_manager()

        await administrator.runs(keep_out)
        await pods_can_be_created(running, gpus.trial())
        await administrator.runs(programs)
        await programs_end(running, gpus)
        await administrator.runs(others)
        nobody = {"spec": {"configuration": {"permittedHostDevices": None}}}
        await running.api.patch(
            KUBEVIRTS, NAME, nobody, patch_type=PatchType.MERGE, namespace=NAMESPACE
        )

        assert await administrator.named("tangram") == []
        assert {name: node.held for name, node in gpus.there.items()} == held
        now = await vms.launchers()
        for name, pod in launchers.items():
            assert now[name]["metadata"]["uid"] == pod["metadata"]["uid"]
            assert now[name]["status"]["phase"] == "Running"
        pods, nodes = now.values(), await running.listed(NODES)
        assert {
            "labels of pods": on(pods, "labels"),
            "annotations of pods": on(pods, "annotations"),
            "labels of nodes": on(nodes, "labels"),
            "annotations of nodes": on(nodes, "annotations"),
        } == STAY

        # What asks for a vGPU waits, for ever; VMs end as they ever did, and leave what they had.
        await running.api.create(PODS, gpus.trial(), namespace="default")
        await vms.delete(*WANTED)
        await running.waiting(1)
        await the_rest_is_removed_by_hand(gpus)


async def the_rest_is_removed_by_hand(gpus: VgpuGpus) -> None:
    """Remove what agents have recorded: vGPUs, then GPU instances; not the other way round."""
    for node in gpus.there.values():
        host, record = node.host, node.record
        await until(lambda host=host: not any(v.opened for v in host.kernel.vgpus()), within=60)
        for gpu in host.gpus.values():
            for instance in host.machine.gpu_instances(gpu):
                with pytest.raises(CommandFailed, match="In use"):
                    host.destroy_instance(gpu, instance.gi_id)
        for entry in record:
            host.remove_vgpu(entry["vgpu"]["id"], "")
        for gpu in host.gpus.values():
            for instance in host.machine.gpu_instances(gpu):
                host.destroy_instance(gpu, instance.gi_id)
        assert node.empty
