"""A node that outlives its agents: its GPUs are a file, its kubelet is here, pods open devices.

Any agent that has the file, such as one of another version, finds what the one before has left.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from nodeagent.apiserver.protocol import NODES, PODS, ApiError, ApiServer, PatchType
from nodeagent.deviceplugin import Places
from tests.e2e.agents import agent
from tests.e2e.process import ROOT, Process
from tests.fakes.kubelet import Container, FakeKubelet, NotAdmitted, Pod
from tests.fakes.nvml.capabilities import write_mig_minors
from tests.fakes.nvml.library import built_for_tests
from tests.fakes.nvml.machine import IN_USE, Machine

MODEL = "H100-80GB"
OPTIONS = ("run", "--mode=container")
LOOK_SECONDS = 0.1
DESTROYING = ("nvmlGpuInstanceDestroy", "nvmlComputeInstanceDestroy")

Place = tuple[int, int, int, int]
"""A GPU instance by GPU (index), NVML's id, profile id and first memory slice."""


class ContainerNode:
    """The Node *name*, which exists in *api*, with so many H100s; its files are in *directory*."""

    def __init__(
        self, directory: Path, places: Places, api: ApiServer, name: str, *, gpus: int = 2
    ) -> None:
        self.name = name
        self.opened: dict[str, Place] = {}
        """What each container has open, by its pod's UID."""
        shared = next(each for each in directory.parents if each.name.startswith("pytest-"))
        library = built_for_tests(shared / "fake-nvml")
        self.machine = Machine.create(library, directory / "state", MODEL, gpus=gpus, node=name)
        boot_id = directory / "proc/sys/kernel/random/boot_id"
        boot_id.parent.mkdir(parents=True)
        boot_id.write_text("boot-1\n")
        write_mig_minors(directory)
        self._root = directory
        self._places = places
        self._api = api
        self._kubelet = FakeKubelet(places)
        self._pods: dict[str, Pod] = {}
        self._advertised: dict[str, int] = {}

    def agent(
        self, log: Path, kubeconfig: Path, *, options: Sequence[str] = OPTIONS, tree: Path = ROOT
    ) -> Process:
        """Return the agent of this node, with *options*, and besides where things are here."""
        return agent(
            log,
            kubeconfig,
            options,
            node=self.name,
            root=self._root,
            machine=self.machine,
            places=self._places,
            tree=tree,
        )

    @property
    def instances(self) -> set[Place]:
        """The GPU instances there are."""
        machine = self.machine
        return {
            (gpu, each.gi_id, each.profile_id, each.placement.start)
            for gpu in range(len(machine.uuids))
            for each in machine.gpu_instances(gpu)
        }

    @property
    def tries_to_destroy_what_is_open(self) -> list[str]:
        """What an agent has called that only the driver has prevented."""
        return [
            str(call)
            for symbol in DESTROYING
            for call in self.machine.calls(symbol)
            if call.code == IN_USE
        ]

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Let the kubelet work until the block ends."""
        async with self._kubelet.serving(), asyncio.TaskGroup() as tasks:
            work = tasks.create_task(self._work(), name=f"{self.name}-kubelet")
            yield
            work.cancel()

    async def _work(self) -> None:
        while True:
            with contextlib.suppress(ApiError):  # it is done again at the next look
                await self._advertise()
                await self._look()
            await asyncio.sleep(LOOK_SECONDS)

    async def _advertise(self) -> None:
        counts = dict(self._kubelet.allocatable)
        if counts == self._advertised:
            return
        shown = dict.fromkeys(self._advertised, 0) | counts
        amounts = {resource: str(count) for resource, count in shown.items()}
        patch = {"status": {"capacity": amounts, "allocatable": amounts}}
        await self._api.patch(
            NODES, self.name, patch, patch_type=PatchType.MERGE, subresource="status"
        )
        self._advertised = counts

    async def _look(self) -> None:
        page = await self._api.list(PODS, field_selector=f"spec.nodeName={self.name}")
        pods = {(pod := msgspec.json.decode(raw))["metadata"]["uid"]: pod for raw in page.items}
        for uid, pod in pods.items():
            if "deletionTimestamp" in pod["metadata"]:
                await self._end(pod["metadata"])
            elif uid not in self._pods and _resources(pod):
                await self._admit(pod)

    async def _end(self, metadata: dict[str, Any]) -> None:
        uid = metadata["uid"]
        if uid in self._pods:
            self._kubelet.end(self._pods.pop(uid))
        if uid in self.opened:
            self.machine.close_client(uid)
            del self.opened[uid]
        await self._api.delete(
            PODS, metadata["name"], namespace=metadata["namespace"], uid=uid, grace_seconds=0
        )

    async def _admit(self, pod: dict[str, Any]) -> None:
        metadata = pod["metadata"]
        container = Container("compute", _resources(pod))
        mine = Pod(metadata["name"], (container,), uid=metadata["uid"])
        others = [c for c in pod["status"].get("conditions", ()) if c["type"] != "Ready"]
        ready = [*others, {"type": "Ready", "status": "True"}]
        status: dict[str, Any] = {"phase": "Running", "conditions": ready}
        try:
            ((answer,),) = (await self._kubelet.admit(mine)).values()
        except NotAdmitted as reason:
            status = {
                "phase": "Failed",
                "reason": "UnexpectedAdmissionError",
                "message": str(reason),
            }
        else:
            (device,) = answer.cdi_devices
            self._open(metadata["uid"], self._variable(device.name))
        self._pods[metadata["uid"]] = mine
        await self._api.patch(
            PODS,
            metadata["name"],
            {"status": status},
            patch_type=PatchType.MERGE,
            namespace=metadata["namespace"],
            subresource="status",
        )

    def _variable(self, device: str) -> str:
        """Return the MIG device that a container runtime would find for a CDI device."""
        for path in self._places.cdi.iterdir():
            spec = json.loads(path.read_text())
            for each in spec["devices"]:
                if f"{spec['kind']}={each['name']}" == device:
                    (variable,) = each["containerEdits"]["env"]
                    return str(variable.partition("=")[2])
        raise AssertionError(f"no CDI specification has {device}")

    def _open(self, uid: str, mig_device: str) -> None:
        machine = self.machine
        (place,) = (
            (gpu, each.gi_id, each.profile_id, each.placement.start)
            for gpu in range(len(machine.uuids))
            for each in machine.gpu_instances(gpu)
            for compute in each.compute_instances
            if machine.mig_uuid(gpu, each.gi_id, compute.ci_id) == mig_device
        )
        machine.open_client(place[0], place[1], uid)
        self.opened[uid] = place


def _resources(pod: dict[str, Any]) -> dict[str, int]:
    return {
        resource: int(amount)
        for container in pod["spec"]["containers"]
        for resource, amount in container["resources"].get("limits", {}).items()
        if resource.startswith("nvidia.com/")
    }
