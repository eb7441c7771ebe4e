"""A driver whose GPU instances are NVML's, and whose devices Harvester makes.

``create`` makes the GPU instance alone; its device comes to be by ``further``, pass after pass, for
Harvester takes its time. ``destroy`` has the device taken away first, and refuses as long as that
lasts. Nothing is waited for in either.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import assert_never

import msgspec
import structlog

from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Assignment, Mode
from nodeagent.api.resources import of_vgpu_type
from nodeagent.driver import (
    CREATE,
    DESTROY,
    Driver,
    DriverError,
    GpuLost,
    Host,
    InstanceInUse,
    LiveInstance,
    MigDisabled,
    NoSuchInstance,
    PlacementUnavailable,
    Purpose,
    RivalCandidate,
    StillLeaving,
    VgpuError,
)
from nodeagent.harvester.decide import (
    MAKING,
    Configure,
    Disable,
    Enable,
    EnableFunctions,
    Touch,
    Wait,
    Write,
    further,
    layout,
    leftovers,
    may_be_disabled,
)
from nodeagent.harvester.door import HarvesterObjects
from nodeagent.harvester.join import Joined, join
from nodeagent.harvester.kernel import Kernel
from nodeagent.harvester.objects import Objects
from nodeagent.vgpu.join import Seen
from nodeagent.vgpu.sysfs import Sysfs
from nodeagent.vgpu.worker import Worker

log = structlog.get_logger()

LIST = "list the vGPUs"


class Unfinished(msgspec.Struct, frozen=True):
    """A GPU instance that waits for the device of an assignment."""

    gpu: str
    gi_id: int
    assignment: Assignment


class Further(msgspec.Struct, frozen=True):
    """What assignments wait for, by id; ``refused`` is whether a write was not taken."""

    waiting: Mapping[str, str] = {}
    refused: bool = False


class HarvesterDriver:
    """A :class:`~nodeagent.driver.Driver` over *gpus*, which knows the GPU instances.

    *worker* runs what touches files; *functions* is whether to enable virtual functions.
    """

    def __init__(
        self,
        gpus: Driver,
        objects: HarvesterObjects,
        sysfs: Sysfs,
        worker: Worker,
        *,
        functions: bool = False,
    ) -> None:
        self._gpus = gpus
        self._objects = objects
        self._kernel = Kernel(sysfs)
        self._worker = worker
        self._functions = functions
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
        """Create a GPU instance at exactly *placement*, the only one that its vGPU could go into.

        Until that is made, no other vGPU of the profile may be made on the GPU.
        """
        _, joined = await self._look()
        found = _on(joined, gpu, CREATE)
        if not found.gpu.mig_enabled:
            raise MigDisabled(CREATE)
        if found.gpu.unhealthy:
            raise VgpuError(CREATE, meaning=found.gpu.unhealthy)
        if any(each.placement.mask & placement.mask for each in found.gpu.instances):
            raise PlacementUnavailable(CREATE)
        if found.vacant(profile_id):
            raise RivalCandidate(CREATE)
        if purpose is not None:
            for device in found.awaited(profile_id):
                if purpose.resource not in of_vgpu_type(device.kind):
                    detail = f"{device.head.name} waits for a {device.type_name} of that profile"
                    raise RivalCandidate(
                        CREATE, meaning="another vGPU would be made in it", detail=detail
                    )
        gi_id = await self._gpus.create(gpu, profile_id, placement)
        self._listed[gpu, gi_id] = LiveInstance(gi_id, profile_id, placement)
        return gi_id

    async def destroy(self, gpu: str, gi_id: int) -> None:
        """Have the device of a GPU instance taken away; once it is gone, destroy that."""
        _, joined = await self._look()
        found = _on(joined, gpu, DESTROY)
        now = next((each for each in found.gpu.instances if each.gi_id == gi_id), None)
        listed = self._listed.get((gpu, gi_id))
        if now is None or listed is None or _place(now) != _place(listed):
            raise NoSuchInstance(DESTROY, detail="it is not the one that was listed")
        keepers = self._objects.now().keepers
        for vgpu in found.inside(gi_id):
            device = found.device_of(vgpu)
            if device is None:
                raise InstanceInUse(DESTROY, detail=f"vGPU {vgpu.id} is not of Harvester's making")
            if now.device is not None and now.in_use:
                raise InstanceInUse(DESTROY)
            if not device.enabled:
                raise StillLeaving(DESTROY, detail="Harvester has yet to take its vGPU away")
            if not may_be_disabled(device, found, keepers):
                raise StillLeaving(DESTROY, detail="Harvester has yet to say that its vGPU is made")
            await self._write(Disable(device))
            raise StillLeaving(DESTROY, detail="Harvester is told to take its vGPU away")
        if now.in_use:
            raise InstanceInUse(DESTROY)
        if found.awaited(now.profile_id) and found.vacant(now.profile_id) == (gi_id,):
            raise StillLeaving(DESTROY, detail="Harvester is about to make a vGPU in it")
        await self._gpus.destroy(gpu, gi_id)
        self._listed.pop((gpu, gi_id), None)

    async def watch(self, changed: Callable[[], None]) -> None:
        """Call *changed* when the GPUs' driver or Harvester tells of something, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._gpus.watch(changed), name="gpus")
            tasks.create_task(self._objects.follow(changed), name="harvester-objects")

    async def further(
        self,
        unfinished: Sequence[Unfinished],
        *,
        planned: Collection[str],
        ours: Collection[str],
        host: Host,
        held: Collection[str],
    ) -> Further:
        """Write what is to be written next on each GPU, and say what each assignment waits for.

        *planned* are the ids of all assignments, *ours* the UUIDs of the GPUs that hold something
        of ours; *host* says which GPUs are ours to cut, and *held* which devices pods have.
        """
        _, joined = await self._look()
        objects = self._objects.now()
        layouts = {gpu.uuid: gpu.layout for gpu in host.gpus}
        waiting: dict[str, str] = {}
        refusals: list[str] = []
        for uuid, found in joined.items():
            if uuid not in layouts:
                continue
            gpu = msgspec.structs.replace(found.gpu, layout=layouts[uuid])
            write = layout(gpu, objects, ours=uuid in ours, functions=self._functions)
            if write is not None:
                refusals.append(await self._tried(write))
            for each in unfinished:
                if each.gpu == uuid:
                    match self._next(each, found, objects, held):
                        case Wait(reason=reason):
                            waiting[each.assignment.id] = reason
                        case Enable() | Touch() | Disable() as next_write:
                            refusals.append(await self._tried(next_write))
                            waiting[each.assignment.id] = refusals[-1] or MAKING
            for disable in leftovers(found, planned=planned, keepers=objects.keepers):
                refusals.append(await self._tried(disable))
        return Further(waiting, any(refusals))

    def _next(
        self, each: Unfinished, found: Joined, objects: Objects, held: Collection[str]
    ) -> Enable | Touch | Disable | Wait:
        return further(
            found,
            each.gi_id,
            each.assignment.id,
            each.assignment.resource,
            keepers=objects.keepers,
            held=held,
        )

    async def _tried(self, write: Write) -> str:
        """Make a write that may be made again another time; return why it was not made, if so."""
        try:
            await self._write(write)
        except DriverError as error:
            log.warning("harvester_refused", error=str(error))
            return str(error)
        return ""

    async def _write(self, write: Write) -> None:
        match write:
            case Enable(device, type_name, assignment):
                await self._objects.enable(device, type_name, assignment)
            case Touch(device, assignment):
                await self._objects.touch(device, assignment)
            case Disable(device):
                await self._objects.disable(device)
            case EnableFunctions(gpu):
                await self._objects.enable_functions(gpu)
            case Configure(mig, enabled, ours):
                await self._objects.configure(mig, enabled=enabled, ours=ours)
            case unexpected:
                assert_never(unexpected)

    async def _look(self) -> tuple[Host, dict[str, Joined]]:
        host = await self._gpus.discover()
        addresses = {gpu.uuid: gpu.pci_address for gpu in host.gpus if gpu.mig_enabled}
        seen, opened = await self._worker.run(LIST, lambda: self._kernel.look(addresses))
        objects = self._objects.now()
        host = msgspec.structs.replace(host, mode=Mode.HARVESTER)
        return host, {
            gpu.uuid: join(gpu, seen.get(gpu.uuid, Seen()), objects, opened) for gpu in host.gpus
        }


def _on(joined: Mapping[str, Joined], uuid: str, call: str) -> Joined:
    if uuid not in joined:
        raise GpuLost(call)
    return joined[uuid]


def _place(instance: LiveInstance) -> tuple[int, Placement]:
    return instance.profile_id, instance.placement
