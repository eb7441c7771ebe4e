"""GPUs for VMs of KubeVirt: the overlay kubevirt, its agents, KubeVirt itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from nodeagent.api.gpunode import Mode
from nodeagent.api.resources import of_vgpu_type
from nodeagent.apiserver.protocol import PODS, PatchType
from nodeagent.apiserver.rest import RestApi
from nodeagent.deviceplugin import Places
from tests.e2e import documented
from tests.e2e.gpus import GpusOfNodes, Place
from tests.e2e.harvester.place import Place as Instance
from tests.e2e.installation import KUBEVIRT_CRDS
from tests.e2e.running import Installed
from tests.e2e.vgpu_judge import misplaced
from tests.e2e.vgpu_node import VgpuNode
from tests.fakes.kubevirt import KubeVirt
from tests.fakes.kubevirt.launcher import instance, launcher
from tests.fakes.pcidevices.names import KUBEVIRTS, VMS
from tests.manifests.generate import MANIFESTS
from tests.waiting import until

SMALL, MEDIUM, LARGE, WHOLE = (
    of_vgpu_type(f"NVIDIA H100XM-{each}")[0] for each in ("1-10C", "2-20C", "3-40C", "7-80C")
)
"""What VMs ask for."""
SAMPLE = MANIFESTS / "samples/virtual-machine.yaml"
NAMESPACE = "kubevirt"
NAME = "kubevirt"
GIVEN = f"--mode={Mode.VGPU_VFIO}"
"""What the overlay says of the way in which vGPUs are handed out."""


def virtual_machine(name: str, *resources: str) -> dict[str, Any]:
    """Return the sample's VM by that *name*, with a vGPU of each of the *resources*, or its own."""
    vm: dict[str, Any] = yaml.safe_load(SAMPLE.read_text())
    vm["metadata"] = {"name": name, "namespace": "default"}
    if resources:
        gpus = [{"name": f"gpu-{n}", "deviceName": each} for n, each in enumerate(resources)]
        vm["spec"]["template"]["spec"]["domain"]["devices"]["gpus"] = gpus
    return vm


class VgpuGpus(GpusOfNodes[VgpuNode]):
    """Four H100s on each node, whose kernel has the interface of *mode*."""

    overlay = "kubevirt"

    def __init__(self, home: Path, mode: Mode) -> None:
        super().__init__(home)
        self.mode = mode

    def node(self, directory: Path, places: Places, api: RestApi, name: str) -> VgpuNode:
        return VgpuNode(directory, places, api, name, self.mode, gpus=4)

    def options(self, given: Sequence[str]) -> list[str]:
        """Return what agents are told; the overlay is for vendor VFIO unless it is changed."""
        assert GIVEN in given
        own = f"--mode={self.mode}"
        return [own if each == GIVEN else each for each in super().options(given)]

    def places(self, pod: Mapping[str, Any]) -> Counter[Instance]:
        """Return where the vGPUs are that the VM in a launcher has open."""
        return self.there[pod["spec"]["nodeName"]].places(pod["metadata"]["uid"])

    def trial(self) -> dict[str, Any]:
        """Return the launcher of a VM that nobody looks after."""
        vm = virtual_machine("trial")
        vm["metadata"]["uid"] = "uid-of-the-vm"
        vmi = instance(vm)
        vmi["metadata"]["uid"] = "uid-of-the-vmi"
        pod = launcher(vmi)
        del pod["metadata"]["ownerReferences"]
        return pod

    @contextlib.asynccontextmanager
    async def at_work(self, place: Place) -> AsyncIterator[None]:
        """Run KubeVirt, kubelets and agents until the block ends."""
        async with _kubevirt(place), super().at_work(place):
            yield


class Vms:
    """VMs of *running*, an installation for *gpus*."""

    def __init__(self, running: Installed, gpus: VgpuGpus) -> None:
        self._running = running
        self._gpus = gpus

    async def create(self, name: str, *resources: str) -> None:
        """Create a VM, as somebody who knows nothing of Tangram."""
        vm = virtual_machine(name, *resources)
        await self._running.api.create(VMS, vm, namespace="default")

    async def restart(self, name: str) -> None:
        """Delete the launcher of a VM, and wait until KubeVirt has it run in another one."""
        former = (await self.launchers())[name]["metadata"]
        await self._running.api.delete(PODS, former["name"], namespace=former["namespace"])

        async def runs_again() -> bool:
            pod = (await self.launchers()).get(name)
            return (
                pod is not None
                and pod["metadata"]["uid"] != former["uid"]
                and pod["status"]["phase"] == "Running"
            )

        await until(runs_again, within=60, every=0.2)

    async def delete(self, *names: str) -> None:
        """Delete VMs."""
        for name in names:
            await self._running.api.delete(VMS, name, namespace="default")

    async def all_well(self, wanted: Mapping[str, Sequence[str]]) -> None:
        """Wait until those *wanted* run, and no others; see that all is as it must be."""

        async def there() -> bool:
            return (await self.launchers()).keys() == wanted.keys()

        await until(there, within=120, every=0.2)
        await self._running.running(len(wanted))
        await self._running.planned(sum(map(len, wanted.values())))
        assert await self.misplaced() == []
        assert await self._running.violations() == []

    async def gone(self, name: str) -> None:
        """Wait until a VM has no launcher any more."""

        async def none() -> bool:
            return name not in await self.launchers()

        await until(none, within=60, every=0.2)

    async def nothing_is_left(self) -> None:
        """Wait until no GPU instance, vGPU, entry of a plan or of an agent's record is left."""
        nodes = self._gpus.there.values()
        await self._running.running(0)
        await self._running.planned(0)
        await until(lambda: all(node.empty for node in nodes), within=60, every=0.2)
        await until(lambda: not any(node.record for node in nodes), within=60, every=0.2)

    async def launchers(self) -> dict[str, dict[str, Any]]:
        """Return the launcher of each VM."""
        return {
            pod["metadata"]["labels"]["vm.kubevirt.io/name"]: pod
            for pod in await self._running.pods()
        }

    async def misplaced(self) -> list[str]:
        """Return what is wrong with where VMs are; nothing if all is well, and all of them run."""
        pods = (await self.launchers()).values()
        return [
            each
            for plan in await self._running.gpu_nodes()
            for each in misplaced(
                self._gpus.there[plan.name],
                plan,
                [pod for pod in pods if pod["spec"].get("nodeName") == plan.name],
            )
        ]


async def permit(place: Place) -> None:
    """Tell KubeVirt of the devices, as the README has it."""
    (command,) = (each for each in documented.commands(documented.INSTALL) if " patch " in each)
    await documented.ran(place.plane, command, overlay=VgpuGpus.overlay, home=place.directory)


async def permit_nothing(place: Place) -> None:
    """Take them out again."""
    nothing = {"spec": {"configuration": {"permittedHostDevices": None}}}
    await place.api.patch(KUBEVIRTS, NAME, nothing, patch_type=PatchType.MERGE, namespace=NAMESPACE)


@contextlib.asynccontextmanager
async def _kubevirt(place: Place) -> AsyncIterator[None]:
    """Run KubeVirt, told of the devices, until the block ends."""
    await place.installer.define(KUBEVIRT_CRDS)
    await place.installer.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    )
    about = {"apiVersion": "kubevirt.io/v1", "kind": "KubeVirt", "metadata": {"name": NAME}}
    await place.api.create(KUBEVIRTS, about | {"spec": {"configuration": {}}}, namespace=NAMESPACE)
    await permit(place)
    controller = KubeVirt(place.api, namespace=NAMESPACE)
    async with asyncio.TaskGroup() as tasks:
        work = tasks.create_task(controller.run(), name="kubevirt")
        yield
        work.cancel()
