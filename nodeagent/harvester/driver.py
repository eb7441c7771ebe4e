"""A driver whose GPU instances are NVML's, and whose devices Harvester makes.

``create`` makes the GPU instance alone; its device comes to be pass after pass (``making``), for
Harvester takes its time. ``destroy`` has the device taken away first, and refuses as long as that
lasts. Nothing is waited for in either.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Mode
from nodeagent.api.resources import of_vgpu_type
from nodeagent.driver import (
    CREATE,
    DESTROY,
    GpuLost,
    Host,
    InstanceInUse,
    LibraryNotFound,
    LiveInstance,
    MigDisabled,
    NoSuchInstance,
    PlacementUnavailable,
    Purpose,
    RivalCandidate,
    StillLeaving,
    VgpuError,
)
from nodeagent.harvester.courtesy import Patience
from nodeagent.harvester.decide import may_be_disabled
from nodeagent.harvester.door import HarvesterObjects
from nodeagent.harvester.giving_way import GiveWay, ShutDriver
from nodeagent.harvester.join import Joined, join
from nodeagent.harvester.kernel import Kernel
from nodeagent.harvester.objects import SriovGpuDevice
from nodeagent.vgpu.join import Seen
from nodeagent.vgpu.sysfs import Sysfs
from nodeagent.vgpu.worker import Worker

LIST = "list the vGPUs"


class HarvesterDriver:
    """A :class:`~nodeagent.driver.Driver` over *gpus*, which knows the GPU instances.

    *gpus* are shut at first, and whenever Harvester needs one left alone, for as long as *patience*
    says; *clock* counts seconds. *worker* runs what touches files. *ask* asks anew where the driver
    is, if it is not there.
    """

    def __init__(
        self,
        gpus: ShutDriver,
        objects: HarvesterObjects,
        sysfs: Sysfs,
        worker: Worker,
        ask: Callable[[], Awaitable[None]] | None = None,
        *,
        patience: Patience | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gpus = gpus
        self._objects = objects
        self._kernel = Kernel(sysfs)
        self._worker = worker
        self._ask = ask
        self._giving_way = GiveWay(
            gpus, objects, self._kernel, worker, patience or Patience(), clock
        )
        self._listed: dict[tuple[str, int], LiveInstance] = {}

    async def discover(self) -> Host:
        """Return everything as it is now."""
        host, joined = await self._look()
        gpus = tuple(joined[gpu.uuid].gpu for gpu in host.gpus)
        self._listed = {(gpu.uuid, each.gi_id): each for gpu in gpus for each in gpu.instances}
        return msgspec.structs.replace(host, gpus=gpus)

    async def joined(self) -> Mapping[str, Joined]:
        """Return each GPU as it is now with all that is known of its devices, by UUID."""
        _, joined = await self._look()
        return joined

    async def leave_alone(self, gpu: SriovGpuDevice) -> None:
        """Let go of all GPUs, for *gpu* is about to be given virtual functions.

        Raises:
            DriverError: they may still be open, so it must not be.
        """
        await self._giving_way.leave_alone(gpu)

    async def create(
        self, gpu: str, profile_id: int, placement: Placement, purpose: Purpose | None = None
    ) -> int:
        """Create a GPU instance at exactly *placement*, the only one that its vGPU could go into.

        Until that is made, no other vGPU of the profile may be made on the GPU.
        """
        found = _on(await self.joined(), gpu, CREATE)
        if not found.gpu.mig_enabled:
            raise MigDisabled(CREATE)
        if found.gpu.unhealthy:
            raise VgpuError(CREATE, meaning=found.gpu.unhealthy)
        if any(each.placement.mask & placement.mask for each in found.gpu.instances):
            raise PlacementUnavailable(CREATE)
        if found.vacant(profile_id):
            raise RivalCandidate(CREATE)
        if purpose is not None:
            _check_nothing_else_is_awaited(found, profile_id, purpose.resource)
        gi_id = await self._gpus.create(gpu, profile_id, placement)
        self._listed[gpu, gi_id] = LiveInstance(gi_id, profile_id, placement)
        return gi_id

    async def destroy(self, gpu: str, gi_id: int) -> None:
        """Have the device of a GPU instance taken away; once it is gone, destroy that."""
        found = _on(await self.joined(), gpu, DESTROY)
        now = next((each for each in found.gpu.instances if each.gi_id == gi_id), None)
        listed = self._listed.get((gpu, gi_id))
        if now is None or listed is None or _place(now) != _place(listed):
            raise NoSuchInstance(DESTROY, detail="it is not the one that was listed")
        if found.inside(gi_id):
            await self._empty(found, now)
        if now.in_use:
            raise InstanceInUse(DESTROY)
        if found.awaited(now.profile_id):
            raise StillLeaving(DESTROY, detail="Harvester is about to make a vGPU in it")
        await self._gpus.destroy(gpu, gi_id)
        self._listed.pop((gpu, gi_id), None)

    async def watch(self, changed: Callable[[], None]) -> None:
        """Call *changed* when the GPUs' driver or Harvester tells of something, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._gpus.watch(changed), name="gpus")
            tasks.create_task(self._objects.follow(changed), name="harvester-objects")

    async def _empty(self, found: Joined, instance: LiveInstance) -> None:
        """Have the vGPU of a GPU instance taken away, if that is not under way already.

        Raises:
            StillLeaving: the vGPU is there until another look shows otherwise.
            InstanceInUse: somebody uses it, or may do so for all that is known.
        """
        vgpu = found.inside(instance.gi_id)[0]
        device = found.device_of(vgpu)
        if device is None:
            raise InstanceInUse(DESTROY, detail=f"vGPU {vgpu.id} is not of Harvester's making")
        if not device.enabled:
            raise StillLeaving(DESTROY, detail="Harvester has yet to take its vGPU away")
        named = self._objects.now().named
        if device.head.name in named:
            detail = "a VM names its vGPU as its own, which Harvester lets nobody take away"
            raise StillLeaving(DESTROY, detail=detail)
        if not may_be_disabled(device, found, named):
            raise StillLeaving(DESTROY, detail="Harvester has yet to say that its vGPU is made")
        if instance.in_use:  # be it by another vGPU that is in it, too
            raise InstanceInUse(DESTROY)
        if found.awaited(instance.profile_id) and found.vacant(instance.profile_id):
            # That may be put into this one, and the driver chooses.
            raise StillLeaving(DESTROY, detail="Harvester has yet to make another vGPU beside it")
        await self._objects.disable(device)
        raise StillLeaving(DESTROY, detail="Harvester is told to take its vGPU away")

    async def _discovered(self) -> Host:
        try:
            return await self._gpus.discover()
        except LibraryNotFound:
            if self._ask is None:
                raise
            await self._ask()
            return await self._gpus.discover()

    async def _look(self) -> tuple[Host, dict[str, Joined]]:
        await self._giving_way.settle()
        host = await self._discovered()
        self._giving_way.shown(host)
        addresses = {gpu.uuid: gpu.pci_address for gpu in host.gpus if gpu.mig_enabled}
        seen, opened = await self._worker.run(LIST, lambda: self._kernel.look(addresses))
        objects = self._objects.now()
        host = msgspec.structs.replace(host, mode=Mode.HARVESTER)
        return host, {
            gpu.uuid: join(gpu, seen.get(gpu.uuid, Seen()), objects, opened) for gpu in host.gpus
        }


def _check_nothing_else_is_awaited(found: Joined, profile_id: int, resource: str) -> None:
    """Raise :class:`RivalCandidate` if Harvester would make a vGPU of another type in it."""
    for device in found.awaited(profile_id):
        if resource not in of_vgpu_type(device.kind):
            raise RivalCandidate(
                CREATE,
                meaning="another vGPU would be made in it",
                detail=f"{device.head.name} waits for a {device.kind} of that profile",
            )


def _on(joined: Mapping[str, Joined], uuid: str, call: str) -> Joined:
    if uuid not in joined:
        raise GpuLost(call)
    return joined[uuid]


def _place(instance: LiveInstance) -> tuple[int, Placement]:
    return instance.profile_id, instance.placement
