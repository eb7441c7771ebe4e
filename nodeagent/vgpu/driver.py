"""A driver whose GPU instances come with a vGPU: NVML's, joined with the kernel's files.

::

    create   no other candidate ─▶ entry ─▶ GPU instance ─▶ entry names vGPU ─▶ vGPU ─▶ in ours?
                                                 ▲                               │ no, or an error
                                                 └── undone: vGPU, GPU instance ◀┘
    destroy  nobody has it open ─▶ vGPU away ─▶ GPU instance away

Cut off anywhere, what is left is a GPU instance of ours without a vGPU, which is destroyed and made
anew, or with its own, which is taken up. A vGPU of ours that ended up elsewhere is known by its
entry in the record, and is removed before the next change on its GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import structlog

from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Mode
from nodeagent.api.resources import of_vgpu_type
from nodeagent.driver import (
    CREATE,
    DESTROY,
    Driver,
    DriverBusy,
    DriverError,
    DriverTimeout,
    GpuLost,
    Host,
    InstanceInUse,
    LiveGpu,
    LiveInstance,
    MigDisabled,
    NoSuchInstance,
    PlacementUnavailable,
    Purpose,
    RivalCandidate,
    VgpuError,
)
from nodeagent.vgpu.change import MAKE, REMOVE, Vgpus
from nodeagent.vgpu.interface import Interface
from nodeagent.vgpu.join import Joined, Seen, join, settled
from nodeagent.vgpu.mdev import Mdev
from nodeagent.vgpu.record import Entry, Record, of_gpu
from nodeagent.vgpu.sysfs import Sysfs
from nodeagent.vgpu.vfio import VendorVfio
from nodeagent.vgpu.worker import Worker

log = structlog.get_logger()

LIST = "list the vGPUs"
RECORD = "write the record of vGPUs"
INTERFACES: Mapping[Mode, Callable[[Sysfs], Interface]] = {
    Mode.VGPU_MDEV: Mdev,
    Mode.VGPU_VFIO: VendorVfio,
}


class VgpuDriver:
    """A :class:`~nodeagent.driver.Driver` for VMs over *gpus*, which knows the GPU instances.

    *mode* says which of the kernel's interfaces there is; *worker* runs what touches files. The
    record is the file *record*; without one it is forgotten with the process. On one GPU only one
    thing may be done at a time, and looked any time.
    """

    def __init__(
        self, gpus: Driver, sysfs: Sysfs, mode: Mode, worker: Worker, record: Path | None = None
    ) -> None:
        self._gpus = gpus
        self._worker = worker
        self._record = Record(record)
        self._vgpus = Vgpus(sysfs, INTERFACES[mode](sysfs), self._record)
        self._creating: set[str] = set()
        self._listed: dict[tuple[str, int], LiveInstance] = {}

    async def discover(self) -> Host:
        """Return everything as it is now."""
        host, joined = await self._look()
        gpus = tuple(joined[gpu.uuid].gpu for gpu in host.gpus)
        self._listed = {(gpu.uuid, each.gi_id): each for gpu in gpus for each in gpu.instances}
        return msgspec.structs.replace(host, gpus=gpus)

    async def create(
        self, gpu: str, profile_id: int, placement: Placement, purpose: Purpose | None = None
    ) -> int:
        """Create a GPU instance and, for a *purpose*, the vGPU that the VM asks for."""
        if purpose is None:
            gi_id = await self._gpus.create(gpu, profile_id, placement)
            self._listed[gpu, gi_id] = LiveInstance(gi_id, profile_id, placement)
            return gi_id
        wanted = Entry(purpose.assignment, gpu, profile_id, placement, boot_id="")
        try:
            address, type_name, entry = await self._prepared(wanted, purpose.resource)
        except DriverTimeout as error:
            # It is not the creation that nobody knows the end of.
            raise DriverError(
                error.call, code=error.code, meaning=error.meaning, detail=error.detail
            ) from error
        self._creating.add(entry.assignment)
        try:
            await self._written(entry)
            gi_id = await self._gpus.create(gpu, profile_id, placement)
            self._listed[gpu, gi_id] = LiveInstance(gi_id, profile_id, placement)
            try:
                await self._worker.run(
                    MAKE,
                    lambda: self._vgpus.make(address, gi_id, type_name, entry),
                    to_the_end=True,
                )
            except DriverError as error:
                await self._undo(entry, address, gi_id, error)
                raise
        finally:
            self._creating.discard(entry.assignment)
        return gi_id

    async def destroy(self, gpu: str, gi_id: int) -> None:
        """Destroy a GPU instance and its vGPU, if both are what was last listed under that id."""
        _, joined = await self._look()
        found = _on(joined, gpu, DESTROY)
        now = next((each for each in found.gpu.instances if each.gi_id == gi_id), None)
        if now is None and found.gpu.unhealthy and not found.gpu.instances:
            raise GpuLost(DESTROY, detail=found.gpu.unhealthy)
        listed = self._listed.get((gpu, gi_id))
        if now is None or listed is None or _place(now) != _place(listed):
            raise NoSuchInstance(DESTROY, detail="it is not the one that was listed")
        if now.in_use:
            raise InstanceInUse(DESTROY)
        if gi_id not in found.owners and now.device not in (None, listed.device):
            raise InstanceInUse(DESTROY, detail="somebody has made a vGPU in it")
        await self._worker.run(REMOVE, lambda: self._vgpus.clear(found, gi_id), to_the_end=True)
        await self._gpus.destroy(gpu, gi_id)
        self._listed.pop((gpu, gi_id), None)

    async def watch(self, changed: Callable[[], None]) -> None:
        """Call *changed* when the GPUs' driver tells of something, until cancelled."""
        await self._gpus.watch(changed)

    async def _look(self) -> tuple[Host, dict[str, Joined]]:
        """Join what the GPUs' driver lists with the vGPUs of the kernel's files."""
        # Entries that come to be, or change, during the look are not judged by it.
        before = await self._worker.run(LIST, lambda: self._record.entries)
        before = tuple(each for each in before if each.assignment not in self._creating)
        host = await self._gpus.discover()
        return host, await self._worker.run(LIST, lambda: self._joined(host, before))

    async def _prepared(self, wanted: Entry, resource: str) -> tuple[str, str, Entry]:
        """Return the GPU's address, the type and the entry, if nothing speaks against creating."""
        host, joined = await self._look()
        found = _on(joined, wanted.gpu, CREATE)
        if not found.gpu.mig_enabled:
            raise MigDisabled(CREATE)
        if found.gpu.unhealthy:
            raise VgpuError(MAKE, meaning=found.gpu.unhealthy)
        if any(each.placement.mask & wanted.placement.mask for each in found.gpu.instances):
            raise PlacementUnavailable(CREATE)
        type_name = _type_name(found.gpu, wanted.profile_id, resource)
        await self._worker.run(
            REMOVE, lambda: self._vgpus.sweep(found, wanted.assignment), to_the_end=True
        )
        _, joined = await self._look()
        # The driver puts a vGPU into whichever free GPU instance of the profile it likes.
        if _on(joined, wanted.gpu, CREATE).may_take(wanted.profile_id):
            raise RivalCandidate(MAKE)
        entry = msgspec.structs.replace(wanted, boot_id=host.boot_id)
        return found.gpu.pci_address, type_name, entry

    async def _written(self, entry: Entry) -> None:
        try:
            await self._worker.run(RECORD, lambda: self._record.put(entry))
        except DriverTimeout as error:
            raise VgpuError(RECORD, meaning=str(error)) from error

    async def _undo(self, entry: Entry, address: str, gi_id: int, reason: DriverError) -> None:
        """Take back what was just created, or say what stays."""
        stays = "the vGPU, if it was made, and its GPU instance stay"
        try:
            if not isinstance(reason, DriverBusy):  # then no vGPU was even begun
                await self._worker.run(
                    REMOVE,
                    lambda: self._vgpus.undo(address, gi_id, entry.assignment),
                    to_the_end=True,
                )
            stays = "its GPU instance stays, of no use"
            await self._gpus.destroy(entry.gpu, gi_id)
            self._listed.pop((entry.gpu, gi_id), None)
        except DriverError as error:
            raise VgpuError(
                MAKE,
                code=reason.code if isinstance(reason, VgpuError) else 0,
                meaning=f"it failed, and could not be undone: {stays}",
                detail=f"{reason}; {error}",
            ) from reason

    # -- on the worker -----------------------------------------------------------------------------

    def _joined(self, host: Host, before: tuple[Entry, ...]) -> dict[str, Joined]:
        addresses = {gpu.uuid: gpu.pci_address for gpu in host.gpus if gpu.mig_enabled}
        seen, opened = self._vgpus.look(addresses)
        changes: dict[Entry, Entry | None] = {e: None for e in before if e.boot_id != host.boot_id}
        for gpu in host.gpus:
            ours = of_gpu(before, gpu.uuid, host.boot_id)
            changes |= settled(gpu, seen.get(gpu.uuid, Seen()), ours)
        try:
            self._record.settle(
                {e: to for e, to in changes.items() if e.assignment not in self._creating}
            )
        except VgpuError as error:  # the entries stay, and do no harm
            log.error("vgpu_record_not_written", error=str(error))
        entries = self._record.entries
        return {
            gpu.uuid: join(
                gpu,
                seen.get(gpu.uuid, Seen()),
                of_gpu(entries, gpu.uuid, host.boot_id),
                opened,
            )
            for gpu in host.gpus
        }


def _on(joined: Mapping[str, Joined], uuid: str, call: str) -> Joined:
    if uuid not in joined:
        raise GpuLost(call)
    return joined[uuid]


def _place(instance: LiveInstance) -> tuple[int, Placement]:
    return instance.profile_id, instance.placement


def _type_name(gpu: LiveGpu, profile_id: int, resource: str) -> str:
    """Return the vGPU type that is asked for by the name of *resource*."""
    for each in gpu.vgpu_types:
        if each.profile_id == profile_id and resource in of_vgpu_type(each.name):
            if each.max_per_instance > 1:
                meaning = f"{each.name} lets several vGPUs share a GPU instance: not supported yet"
                raise VgpuError(MAKE, meaning=meaning)
            return each.name
    raise VgpuError(MAKE, meaning=f"no vGPU type of the GPU is asked for as {resource}")
