"""A node of vGPUs that outlives its agents: GPUs and their vGPUs are a file, its kubelet is here.

What it runs are launchers, in which QEMU opens the vGPUs that they have been told of.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from nodeagent.api.gpunode import Mode
from nodeagent.apiserver.protocol import ApiServer
from nodeagent.deviceplugin import Places
from nodeagent.real_node import RECORD
from tests.e2e.agents import agent
from tests.e2e.harvester.place import Place, place
from tests.e2e.process import Process
from tests.fakes.kubelet import FakeKubelet
from tests.fakes.kubevirt import LauncherNode
from tests.fakes.nvml.library import built_for_tests
from tests.fakes.pcidevices import log as deeds
from tests.fakes.pcidevices.host import Host
from tests.fakes.pcidevices.log import Log
from tests.fakes.pcidevices.names import Version
from tests.fakes.pcidevices.site import machine
from tests.fakes.sysfs.tree import function_address, group_of

MODEL = "H100-80GB"
FUNCTIONS = 8
"""Virtual functions of each GPU: as many as can be used, and one more."""
PROGRAM = "tests.e2e.vgpu_agent"
_IN_USE = 19  # NVML's code
_INTERFACES = {Mode.VGPU_MDEV: Version.V1_7, Mode.VGPU_VFIO: Version.V1_8}
"""Which of Harvester's versions has that interface of the kernel: the fakes are named by them."""


class VgpuNode:
    """The Node *name*, which exists in *api*, with so many H100s; its files are in *directory*.

    *mode* says which interface for vGPUs its kernel has.
    """

    def __init__(
        self,
        directory: Path,
        places: Places,
        api: ApiServer,
        name: str,
        mode: Mode,
        *,
        gpus: int = 2,
    ) -> None:
        self.name = name
        shared = next(each for each in directory.parents if each.name.startswith("pytest-"))
        library = built_for_tests(shared / "fake-nvml")
        self._log = Log(asyncio.get_running_loop().time)
        self.host = Host(
            name,
            machine(directory, library, MODEL, gpus=gpus, node=name),
            self._log,
            _INTERFACES[mode],
            functions=FUNCTIONS,
        )
        for gpu in self.host.gpus.values():
            self.host.sriov_manage(gpu, enable=True)
        boot_id = directory / "proc/sys/kernel/random/boot_id"
        boot_id.parent.mkdir(parents=True)
        boot_id.write_text("boot-1\n")
        self.root = directory
        self._places = places
        self.kubelet = FakeKubelet(places)
        self.launchers = LauncherNode(api, self.host, self.kubelet)

    def agent(self, log: Path, kubeconfig: Path, *, options: Sequence[str]) -> Process:
        """Return the agent of this node, with *options*, and besides where things are here."""
        return agent(
            log,
            kubeconfig,
            options,
            node=self.name,
            root=self.root,
            machine=self.host.machine,
            places=self._places,
            program=PROGRAM,
        )

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Let the kubelet work, and VMs in their launchers, until the block ends."""
        async with self.kubelet.serving(), asyncio.TaskGroup() as tasks:
            work = tasks.create_task(self.launchers.run(), name=f"{self.name}-kubelet")
            yield
            work.cancel()

    @property
    def held(self) -> tuple[object, object]:
        """All GPU instances and vGPUs there are."""
        machine, gpus = self.host.machine, self.host.gpus.values()
        return [machine.gpu_instances(gpu) for gpu in gpus], self.host.kernel.vgpus()

    @property
    def empty(self) -> bool:
        """Whether there are none."""
        instances = (self.host.machine.gpu_instances(gpu) for gpu in self.host.gpus.values())
        return not any(instances) and not self.host.kernel.vgpus()

    @property
    def record(self) -> list[dict[str, Any]]:
        """What agents have recorded on the node's disk of vGPUs of theirs."""
        file = self.root / "agent" / self.name / RECORD
        entries: list[dict[str, Any]] = msgspec.json.decode(file.read_bytes())["entries"]
        return entries

    @property
    def amiss(self) -> list[str]:
        """What kubelet or launchers have refused, and what an agent may not even have tried."""
        refused = self._log.of(deeds.REFUSED)
        anywhere = self._log.of(deeds.NVML_CREATE_ANYWHERE)
        used = [each for each in self._log.of(deeds.NVML_DESTROY) if each.code == _IN_USE]
        return [f"{e.actor}: {e.action} {e.subject} {e.detail}" for e in refused + anywhere + used]

    def places(self, uid: str) -> Counter[Place]:
        """Return the GPU instances behind the vGPUs that the VM in the pod of that UID has open."""
        return Counter(place(self.host, each) for each in self.launchers.devices(uid))

    def file(self, function: str) -> str:
        """Return the file that a VM opens of the vGPU on a virtual function (a PCI address)."""
        gpu = self.host.parent(function)
        number = self.host.functions(gpu)[function]
        assert function == function_address(gpu, number)
        return f"/dev/vfio/{group_of(gpu, number)}"

    def files(self, uid: str) -> set[str]:
        """Return the device files that the launcher of that UID was given."""
        (pod,) = (pod for pod in self.kubelet.pods.values() if pod.ref.uid == uid)
        answers = (each.answer for each in self.kubelet.entries_of(pod))
        return {device.host_path for answer in answers for device in answer.devices}
