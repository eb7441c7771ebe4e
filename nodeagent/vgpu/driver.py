"""A driver whose GPU instances come with a vGPU: NVML's, joined with the kernel's files.

::

    create   no other candidate ─▶ GPU instance ─▶ vGPU ─▶ which GPU instance has it? ─▶ done
                                         ▲                          │ not ours, or an error
                                         └── undone: vGPU, GPU instance ◀──┘
    destroy  nobody has it open ─▶ vGPU away ─▶ GPU instance away

Cut off anywhere, what is left is a GPU instance of ours without a vGPU, which is destroyed and made
anew, or with its own, which is taken up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeVar

import msgspec
import structlog

from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Mode
from nodeagent.api.resources import of_vgpu_type
from nodeagent.driver import (
    CREATE,
    DESTROY,
    Driver,
    DriverError,
    GpuLost,
    Host,
    InstanceInUse,
    LiveDevice,
    LiveGpu,
    LiveInstance,
    NoSuchInstance,
    Purpose,
    RivalCandidate,
    VgpuError,
)
from nodeagent.vgpu.interface import Interface, Order, Vgpu
from nodeagent.vgpu.mdev import Mdev
from nodeagent.vgpu.sysfs import Sysfs
from nodeagent.vgpu.vfio import VendorVfio

log = structlog.get_logger()

T = TypeVar("T")

LIST = "list the vGPUs"
MAKE = "make a vGPU"
REMOVE = "remove a vGPU"
INTERFACES: Mapping[Mode, Callable[[Sysfs], Interface]] = {
    Mode.VGPU_MDEV: Mdev,
    Mode.VGPU_VFIO: VendorVfio,
}


class Worker(Protocol):
    """Runs blocking jobs, one after the other, and notices one that does not come back."""

    async def run(self, call: str, job: Callable[[], T], *, to_the_end: bool = False) -> T:
        """Return what *job* returns; *call* names it in errors (DriverTimeout, DriverBusy)."""


class VgpuDriver:
    """A :class:`~nodeagent.driver.Driver` for VMs over *gpus*, which knows the GPU instances.

    *mode* says which of the kernel's interfaces there is; *worker* runs what touches its files.
    """

    def __init__(self, gpus: Driver, sysfs: Sysfs, mode: Mode, worker: Worker) -> None:
        self._gpus = gpus
        self._sysfs = sysfs
        self._interface: Interface = INTERFACES[mode](sysfs)
        self._worker = worker
        self._listed: dict[tuple[str, int], LiveInstance] = {}

    async def discover(self) -> Host:
        """Return everything as it is now."""
        host = await self._looked_at()
        self._listed = {(gpu.uuid, i.gi_id): i for gpu in host.gpus for i in gpu.instances}
        return host

    async def create(
        self, gpu: str, profile_id: int, placement: Placement, purpose: Purpose | None = None
    ) -> int:
        """Create a GPU instance and, for a *purpose*, the vGPU that the VM asks for."""
        if purpose is None:
            return await self._gpus.create(gpu, profile_id, placement)
        found = _gpu(await self._looked_at(), gpu, CREATE)
        type_name = _type_name(found, profile_id, purpose.resource)
        # The driver puts a vGPU into whichever free GPU instance of the profile it likes.
        if any(i.profile_id == profile_id and i.device is None for i in found.instances):
            raise RivalCandidate(MAKE)
        gi_id = await self._gpus.create(gpu, profile_id, placement)
        try:
            await self._worker.run(
                MAKE,
                lambda: self._make(found.pci_address, gi_id, type_name, purpose.assignment),
                to_the_end=True,
            )
        except DriverError as error:
            await self._undo(gpu, gi_id, error)
            raise
        return gi_id

    async def destroy(self, gpu: str, gi_id: int) -> None:
        """Destroy a GPU instance and its vGPU, if both are what was last listed under that id."""
        found = _gpu(await self._looked_at(), gpu, DESTROY)
        now = next((each for each in found.instances if each.gi_id == gi_id), None)
        listed = self._listed.get((gpu, gi_id))
        if now is None or listed is None or _identity(now) != _identity(listed):
            raise NoSuchInstance(DESTROY, detail="it is not the one that was listed")
        if now.in_use:
            raise InstanceInUse(DESTROY)
        if now.device is not None:
            await self._worker.run(
                REMOVE, lambda: self._remove(found.pci_address, gi_id), to_the_end=True
            )
        await self._gpus.destroy(gpu, gi_id)

    async def watch(self, changed: Callable[[], None]) -> None:
        """Call *changed* when the GPUs' driver tells of something, until cancelled."""
        await self._gpus.watch(changed)

    async def _looked_at(self) -> Host:
        """Join what the GPUs' driver lists with the vGPUs of the kernel's files."""
        host = await self._gpus.discover()
        addresses = {gpu.uuid: gpu.pci_address for gpu in host.gpus if gpu.mig_enabled}
        vgpus = await self._worker.run(LIST, lambda: self._existing(addresses))
        opened = await self._worker.run(LIST, self._sysfs.opened)
        joined = tuple(_joined(gpu, vgpus.get(gpu.uuid, ()), opened) for gpu in host.gpus)
        return msgspec.structs.replace(host, gpus=joined)

    async def _undo(self, gpu: str, gi_id: int, reason: DriverError) -> None:
        """Destroy the GPU instance just created, or say that it stays."""
        try:
            await self._gpus.destroy(gpu, gi_id)
        except DriverError as error:
            raise DriverError(
                CREATE,
                code=reason.code,
                meaning="the GPU instance was made, has no vGPU, and could not be destroyed",
                detail=f"{reason}; {error}",
            ) from reason

    # -- on the worker -----------------------------------------------------------------------------

    def _existing(self, addresses: Mapping[str, str]) -> dict[str, tuple[Vgpu, ...]]:
        return {uuid: self._interface.existing(address) for uuid, address in addresses.items()}

    def _make(self, gpu_address: str, gi_id: int, type_name: str, assignment: str) -> None:
        """Make a vGPU in the GPU instance, or leave none; it is judged by what is there after."""
        order = self._interface.order(gpu_address, type_name, assignment)
        failure: VgpuError | None = None
        try:
            self._sysfs.write(order.path, order.text)
        except VgpuError as error:
            failure = error
        made = self._found(gpu_address, order)
        if made is None:
            raise failure or VgpuError(MAKE, meaning="reported done, but the vGPU is not there")
        if failure is None and made.gi_id == gi_id:
            log.info("vgpu_created", id=made.id, function=made.function, gi_id=gi_id)
            return
        # After an error it is ours only if it has our name, or sits in our GPU instance.
        if failure is None or order.unmistakable or made.gi_id == gi_id:
            self._remove_this(gpu_address, made)
        raise failure or VgpuError(MAKE, meaning="the driver chose another GPU instance")

    def _found(self, gpu_address: str, order: Order) -> Vgpu | None:
        existing = self._interface.existing(gpu_address)
        return next((vgpu for vgpu in existing if vgpu.id == order.id), None)

    def _remove(self, gpu_address: str, gi_id: int) -> None:
        for vgpu in self._interface.existing(gpu_address):
            if vgpu.gi_id == gi_id:
                self._remove_this(gpu_address, vgpu)

    def _remove_this(self, gpu_address: str, vgpu: Vgpu) -> None:
        # Looked at again, for removing an open one may block until a VM has ended.
        if not self._sysfs.opened().isdisjoint(_own_nodes(vgpu.nodes)):
            raise InstanceInUse(REMOVE)
        self._interface.remove(vgpu)
        if any(each.id == vgpu.id for each in self._interface.existing(gpu_address)):
            raise VgpuError(REMOVE, meaning="reported done, but the vGPU is still there")
        log.info("vgpu_removed", id=vgpu.id, function=vgpu.function, gi_id=vgpu.gi_id)


def _joined(gpu: LiveGpu, vgpus: Iterable[Vgpu], opened: frozenset[str]) -> LiveGpu:
    """Give each GPU instance its vGPU; with several vGPUs in one, that is somebody's busy one."""
    inside: dict[int, list[Vgpu]] = {}
    for vgpu in vgpus:
        if vgpu.gi_id is not None:
            inside.setdefault(vgpu.gi_id, []).append(vgpu)

    def with_device(instance: LiveInstance) -> LiveInstance:
        there = inside.get(instance.gi_id, [])
        if not there:
            return instance
        nodes = [node for vgpu in there for node in _own_nodes(vgpu.nodes)]
        return msgspec.structs.replace(
            instance,
            in_use=instance.in_use or len(there) > 1 or not opened.isdisjoint(nodes),
            device=LiveDevice(there[0].id, there[0].nodes),
        )

    return msgspec.structs.replace(gpu, instances=tuple(map(with_device, gpu.instances)))


def _own_nodes(nodes: Iterable[str]) -> list[str]:
    """Return the device files that are one vGPU's alone: every VM opens /dev/vfio/vfio."""
    return [node for node in nodes if node != "/dev/vfio/vfio"]


def _identity(instance: LiveInstance) -> tuple[int, Placement, str]:
    device = "" if instance.device is None else instance.device.id
    return instance.profile_id, instance.placement, device


def _gpu(host: Host, uuid: str, call: str) -> LiveGpu:
    found = next((gpu for gpu in host.gpus if gpu.uuid == uuid), None)
    if found is None:
        raise GpuLost(call)
    return found


def _type_name(gpu: LiveGpu, profile_id: int, resource: str) -> str:
    """Return the vGPU type that is asked for by the name of *resource*."""
    for each in gpu.vgpu_types:
        if each.profile_id == profile_id and resource in of_vgpu_type(each.name):
            if each.max_per_instance > 1:
                meaning = f"{each.name} lets several vGPUs share a GPU instance: not supported yet"
                raise VgpuError(MAKE, meaning=meaning)
            return each.name
    raise VgpuError(MAKE, meaning=f"no vGPU type of the GPU is asked for as {resource}")
