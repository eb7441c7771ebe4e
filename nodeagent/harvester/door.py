"""The way to Harvester's objects: followed, and written one at a time.

Each write names the state of the object that it was decided on, so it is made once or not at all,
and whoever was faster is never written over. What comes of it, Harvester's controller does in its
own time; a webhook of its may refuse, with words for people.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import structlog

from nodeagent.api.keys import (
    ASSIGNMENT_ANNOTATION,
    HANDED_BACK,
    LEFT_ALONE_ANNOTATION,
    NEUTRAL_ANNOTATION,
)
from nodeagent.apiserver.protocol import VIRTUAL_MACHINES, ApiError, ApiServer, Kind, PatchType
from nodeagent.apiserver.reflector import (
    DEFAULT_PACE,
    Deleted,
    Interrupted,
    Pace,
    Replaced,
    Upserted,
    reflect,
)
from nodeagent.driver import DriverError
from nodeagent.harvester import wire
from nodeagent.harvester.known import Known
from nodeagent.harvester.objects import (
    MIG_CONFIGURATIONS,
    NODE_LABEL,
    SRIOV_GPU_DEVICES,
    VGPU_DEVICES,
    Head,
    MigConfiguration,
    Objects,
    SriovGpuDevice,
    VgpuDevice,
    kept_by,
)

log = structlog.get_logger()

READ = "read Harvester's objects"


class Refusal(DriverError):
    """Harvester, or the API server, did not take a write; try again another time."""

    meaning = "Harvester did not take it"

    def _told(self) -> str:
        return f"{self.call}: {self.meaning}"  # no error of NVML's


class HarvesterObjects(Protocol):
    """A node's objects. Writes may raise :class:`Refusal`; all are made by the state they name."""

    async def follow(self, changed: Callable[[], None]) -> None:
        """Keep them current until cancelled; call *changed* whenever they have changed."""

    def now(self) -> Objects:
        """Return them as they are known.

        Raises:
            DriverError: they have not all been read yet.
        """

    async def enable(self, device: VgpuDevice, type_name: str, assignment: str) -> None:
        """Have a vGPU of that type made on *device*, for *assignment*."""

    async def touch(self, device: VgpuDevice, assignment: str) -> None:
        """Have Harvester look at *device* anew, which may be enabled for *assignment* then."""

    async def disable(self, device: VgpuDevice) -> None:
        """Have the vGPU on *device* taken away."""

    async def enable_functions(self, gpu: SriovGpuDevice) -> None:
        """Have the GPU's virtual functions enabled, which wipes its GPU instances."""

    async def prompt(self, gpu: SriovGpuDevice) -> None:
        """Have Harvester look at *gpu* anew, which is left alone now."""

    async def configure(self, mig: MigConfiguration, *, enabled: bool, ours: bool) -> None:
        """Ask for no GPU instance, enabled or not; *ours* is whether to remember that it was us."""

    async def touch_layout(self, mig: MigConfiguration) -> None:
        """Have Harvester look at *mig* anew, which is neutral, and is to be handed back."""


class ClusterObjects:
    """The objects of *node* behind an API server; each write has *timeout* seconds.

    SRIOVGPUDevices and VGPUDevices are followed by the label of their node. MigConfigurations have
    none: all are followed, one for each GPU of the cluster.

    So are all VirtualMachines. Which devices one keeps is in an annotation, which nobody can select
    by; one that is off is on no node, nor has it an instance that would be labelled with one; one
    that keeps a device here may run anywhere else by now. Of each only what it keeps is remembered.
    That costs an agent some 9 kB and 25 us for each VM as it starts, and for each change of one
    (measured on a VM as Harvester's UI writes it, without the way there): 9 MB for 1,000 VMs.
    """

    def __init__(
        self, api: ApiServer, node: str, *, timeout: float, pace: Pace = DEFAULT_PACE
    ) -> None:
        self._api = api
        self._node = node
        self._timeout = timeout
        self._pace = pace
        self._gpus = Known(wire.sriov_gpu_device)
        self._vgpus = Known(wire.vgpu_device)
        self._migs = Known(wire.mig_configuration)
        self._keepers = Known(wire.keeper, lambda keeper: bool(keeper.named))
        self._changed: Callable[[], None] = lambda: None

    async def follow(self, changed: Callable[[], None]) -> None:
        """Keep them current until cancelled; call *changed* whenever they have changed.

        By a write of ours, too: the watch then tells of nothing that is not known already.
        """
        self._changed = changed
        here = f"{NODE_LABEL}={self._node}"
        async with asyncio.TaskGroup() as tasks:
            for kind, known, labels in (
                (SRIOV_GPU_DEVICES, self._gpus, here),
                (VGPU_DEVICES, self._vgpus, here),
                (MIG_CONFIGURATIONS, self._migs, ""),
                (VIRTUAL_MACHINES, self._keepers, ""),
            ):
                tasks.create_task(self._follow(kind, known, labels, changed), name=kind.plural)

    def now(self) -> Objects:
        """Return them as they are known.

        Raises:
            DriverError: they have not all been read yet.
        """
        if not all(known.listed for known in (self._gpus, self._vgpus, self._migs, self._keepers)):
            raise DriverError(READ, meaning="Harvester's objects have not been read yet")
        return Objects(
            tuple(self._gpus.found.values()),
            tuple(self._vgpus.found.values()),
            tuple(mig for node, mig in self._migs.found.values() if node == self._node),
            kept_by(self._keepers.found.values(), self._vgpus.found.values()),
            frozenset(
                name for keeper in self._keepers.found.values() for name in keeper.named
            ).intersection(each.head.name for each in self._vgpus.found.values()),
        )

    async def enable(self, device: VgpuDevice, type_name: str, assignment: str) -> None:
        """Have a vGPU of that type made on *device*, for *assignment*."""
        spec = {"enabled": True, "vGPUTypeName": type_name}
        annotations = {ASSIGNMENT_ANNOTATION: assignment}
        call = f"enable VGPUDevice {device.head.name}"
        raw = await self._write(call, VGPU_DEVICES, device.head, spec, annotations)
        self._vgpus.written(device.head.name, raw)
        log.info("vgpu_enabled", device=device.head.name, type=type_name, assignment=assignment)

    async def touch(self, device: VgpuDevice, assignment: str) -> None:
        """Have Harvester look at *device* anew, which may be enabled for *assignment* then."""
        annotations = {ASSIGNMENT_ANNOTATION: assignment}
        call = f"touch VGPUDevice {device.head.name}"
        raw = await self._write(call, VGPU_DEVICES, device.head, {}, annotations)
        self._vgpus.written(device.head.name, raw)
        log.debug("vgpu_touched", device=device.head.name, assignment=assignment)

    async def disable(self, device: VgpuDevice) -> None:
        """Have the vGPU on *device* taken away."""
        spec, annotations = {"enabled": False}, {ASSIGNMENT_ANNOTATION: None}
        call = f"disable VGPUDevice {device.head.name}"
        raw = await self._write(call, VGPU_DEVICES, device.head, spec, annotations)
        self._vgpus.written(device.head.name, raw)
        log.info("vgpu_disabled", device=device.head.name, type=device.type_name)

    async def enable_functions(self, gpu: SriovGpuDevice) -> None:
        """Have the GPU's virtual functions enabled, which wipes its GPU instances."""
        call = f"enable SRIOVGPUDevice {gpu.head.name}"
        raw = await self._write(call, SRIOV_GPU_DEVICES, gpu.head, {"enabled": True}, {})
        self._gpus.written(gpu.head.name, raw)
        log.info("functions_asked_for", gpu=gpu.head.name)

    async def prompt(self, gpu: SriovGpuDevice) -> None:
        """Have Harvester look at *gpu* anew, which is left alone now.

        What has failed it tries again after longer and longer waits, but any change of the object
        is an occasion, too; the text that changes means nothing.
        """
        annotations = {LEFT_ALONE_ANNOTATION: gpu.head.version}
        call = f"touch SRIOVGPUDevice {gpu.head.name}"
        raw = await self._write(call, SRIOV_GPU_DEVICES, gpu.head, {}, annotations)
        self._gpus.written(gpu.head.name, raw)
        log.debug("gpu_touched", gpu=gpu.head.name)

    async def configure(self, mig: MigConfiguration, *, enabled: bool, ours: bool) -> None:
        """Ask for no GPU instance, enabled or not; *ours* is whether to remember that it was us.

        The profiles' names and ids stay. Where none is asked for they are left out of the
        write, for Harvester's webhook freezes them while the layout is in force.
        """
        spec: dict[str, Any] = {"enabled": enabled}
        if mig.asks and enabled:
            spec["profileSpec"] = [
                {"name": each.name, "id": each.id, "requested": 0} for each in mig.requested
            ]
        annotations = {NEUTRAL_ANNOTATION: "true" if ours else None}
        call = f"configure MigConfiguration {mig.head.name}"
        raw = await self._write(call, MIG_CONFIGURATIONS, mig.head, spec, annotations)
        self._migs.written(mig.head.name, raw)
        if mig.cut_by_hand and not enabled:
            given_up = {each.name: each.requested for each in mig.requested if each.requested}
            log.warning("layout_given_up", gpu=mig.head.name, requested=given_up)
        else:
            log.info("layout_left_to_tangram" if ours else "layout_handed_back", gpu=mig.head.name)

    async def touch_layout(self, mig: MigConfiguration) -> None:
        """Have Harvester look at *mig* anew, which is neutral, and is to be handed back."""
        annotations = {NEUTRAL_ANNOTATION: HANDED_BACK}
        call = f"touch MigConfiguration {mig.head.name}"
        raw = await self._write(call, MIG_CONFIGURATIONS, mig.head, {}, annotations)
        self._migs.written(mig.head.name, raw)
        log.debug("layout_touched", gpu=mig.head.name)

    async def _write(
        self,
        call: str,
        kind: Kind,
        head: Head,
        spec: Mapping[str, object],
        annotations: Mapping[str, str | None],
    ) -> bytes:
        metadata: dict[str, object] = {"uid": head.uid, "resourceVersion": head.version}
        if annotations:
            metadata["annotations"] = annotations
        try:
            raw = await self._api.patch(
                kind,
                head.name,
                {"metadata": metadata} | ({"spec": spec} if spec else {}),
                patch_type=PatchType.MERGE,
                timeout=self._timeout,
            )
        except ApiError as error:
            raise Refusal(call, meaning=error.message) from error
        self._changed()
        return raw

    async def _follow(
        self, kind: Kind, known: Known[Any], labels: str, changed: Callable[[], None]
    ) -> None:
        changes = reflect(self._api, kind, label_selector=labels, pace=self._pace)
        async with contextlib.aclosing(changes):
            async for change in changes:
                match change:
                    case Replaced(objects=listed):
                        known.replace(listed)
                        changed()
                    case Upserted(object=current):
                        if known.put(current):
                            changed()
                    case Deleted(object=gone):
                        if known.drop(gone):
                            changed()
                    case Interrupted(error=error):
                        log.warning("objects_unheard", kind=kind.plural, error=str(error))
                    case _:
                        pass
