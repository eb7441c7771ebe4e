"""Having devices made, and layouts changed: one write for each GPU instance and GPU at a time.

What is to be written follows from a fresh look (``decide``); what comes of it, the next look shows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, assert_never

import msgspec
import structlog

from nodeagent.api.gpunode import Assignment
from nodeagent.driver import DriverError, Host
from nodeagent.harvester.decide import (
    MAKING,
    Configure,
    Disable,
    Enable,
    EnableFunctions,
    Touch,
    TouchLayout,
    Wait,
    Write,
    further,
    layout,
    leftovers,
)
from nodeagent.harvester.door import HarvesterObjects, Refusal
from nodeagent.harvester.join import Joined
from nodeagent.harvester.objects import Objects, SriovGpuDevice

log = structlog.get_logger()

NAMED = "a VM has come to name its vGPU as its own"


class Unfinished(msgspec.Struct, frozen=True):
    """A GPU instance that waits for the device of an assignment."""

    gpu: str
    gi_id: int
    assignment: Assignment


class Further(msgspec.Struct, frozen=True):
    """What assignments wait for, by id; ``refused`` is whether a write was not taken."""

    waiting: Mapping[str, str] = {}
    refused: bool = False


class Looking(Protocol):
    """What shows the GPUs."""

    async def joined(self) -> Mapping[str, Joined]:
        """Return each GPU as it is now, by UUID; may raise :class:`DriverError`."""

    async def leave_alone(self, gpu: SriovGpuDevice) -> None:
        """Let go of all GPUs, for *gpu* is about to be given virtual functions."""


class Making:
    """Writes *objects* by what *looking* shows; *functions*: whether to enable virtual ones."""

    def __init__(
        self, looking: Looking, objects: HarvesterObjects, *, functions: bool = False
    ) -> None:
        self._looking = looking
        self._objects = objects
        self._functions = functions

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
        of ours; *host* says which GPUs are ours to cut, and which were cut by hand when that was
        decided; *held* which devices pods have.

        Raises:
            DriverError: nothing can be seen, so nothing was written.
        """
        joined = await self._looking.joined()
        objects = self._objects.now()
        waiting: dict[str, str] = {}
        refusals: list[str] = []
        for gpu in host.gpus:
            found = joined.get(gpu.uuid)
            if found is None:
                continue
            now = msgspec.structs.replace(found.gpu, layout=gpu.layout, cut_by_hand=gpu.cut_by_hand)
            write = layout(now, objects, ours=gpu.uuid in ours, functions=self._functions)
            if write is not None:
                refusals.append(await self._tried(write))
            for each in unfinished:
                if each.gpu != gpu.uuid:
                    continue
                match _next(each, found, objects, held):
                    case Wait(reason=reason):
                        waiting[each.assignment.id] = reason
                    case Enable() | Touch() | Disable() as step:
                        refusals.append(await self._tried(step))
                        waiting[each.assignment.id] = refusals[-1] or MAKING
            for disable in leftovers(found, planned=planned, named=objects.named):
                refusals.append(await self._tried(disable))
        return Further(waiting, any(refusals))

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
                if device.head.name in self._objects.now().named:
                    # It was not when that was decided: other writes have been waited for since.
                    raise Refusal(f"disable VGPUDevice {device.head.name}", meaning=NAMED)
                await self._objects.disable(device)
            case EnableFunctions(gpu):
                await self._looking.leave_alone(gpu)
                await self._objects.enable_functions(gpu)
            case Configure(mig, enabled, ours):
                await self._objects.configure(mig, enabled=enabled, ours=ours)
            case TouchLayout(mig):
                await self._objects.touch_layout(mig)
            case unexpected:
                assert_never(unexpected)


def _next(
    each: Unfinished, found: Joined, objects: Objects, held: Collection[str]
) -> Enable | Touch | Disable | Wait:
    return further(
        found,
        each.gi_id,
        each.assignment.id,
        each.assignment.resource,
        named=objects.named,
        held=held,
    )
