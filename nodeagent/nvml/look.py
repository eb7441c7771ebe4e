"""What is there now: every GPU and all that is on it. Looking changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import structlog

from nodeagent.driver import (
    DriverError,
    GpuLost,
    LiveDevice,
    LiveGpu,
    LiveInstance,
    NoSuchInstance,
    NotSupported,
)
from nodeagent.nvml import (
    compute_instances,
    device_files,
    gpu_instances,
    gpus,
    health,
    host,
    profiles,
    vgpus,
)
from nodeagent.nvml.gpu_instances import Described, GpuInstance
from nodeagent.nvml.gpus import Device
from nodeagent.nvml.quarantine import NOT_MIG_CAPABLE, Quarantine
from nodeagent.nvml.session import Nvml
from nodeagent.nvml.use import in_use

log = structlog.get_logger()


class Look:
    """Reads the GPUs; *root* is where ``/proc`` and ``/sys`` are.

    *devices* is whether GPU instances are handed out as MIG devices. What was seen and is not told
    again is remembered: why a GPU is in *quarantine*, and (``seen``, as empty GPUs) what does not
    change, so that a GPU which no longer answers can still be told of, in the place where it was.
    """

    def __init__(self, nvml: Nvml, root: Path, quarantine: Quarantine, *, devices: bool) -> None:
        self.seen: dict[str, LiveGpu] = {}
        self._nvml = nvml
        self._root = root
        self._quarantine = quarantine
        self._devices = devices

    def gpus(self) -> tuple[LiveGpu, ...]:
        """Return every GPU that is or was there, each as it is now, or why that is not known."""
        now = {gpu.uuid: gpu for gpu in self._answering()}
        for uuid in self.seen.keys() - now.keys():
            self._quarantine.lost(uuid)
        lost = str(GpuLost("nvmlDeviceGetHandleByIndex"))
        return tuple(
            now.get(uuid) or msgspec.structs.replace(known, unhealthy=lost, listed=False)
            for uuid, known in self.seen.items()
        )

    def _answering(self) -> Iterator[LiveGpu]:
        for index in range(gpus.count(self._nvml)):
            uuid = ""
            try:
                device = gpus.at(self._nvml, index)
                uuid = gpus.uuid(self._nvml, device)
                yield self._read(device, uuid)
            except DriverError as error:
                if isinstance(error, GpuLost) and uuid:
                    self._quarantine.lost(uuid)
                if uuid in self.seen:
                    yield msgspec.structs.replace(
                        self.seen[uuid], unhealthy=str(error), listed=False
                    )
                else:
                    log.warning("gpu_not_readable", index=index, gpu=uuid, error=str(error))

    def _read(self, device: Device, uuid: str) -> LiveGpu:
        try:
            mig_enabled, _ = gpus.mig_mode(self._nvml, device)
        except NotSupported:
            self.seen[uuid] = self._described(device, uuid)
            return self.seen[uuid]
        known = self.seen[uuid] = self._mig_capable(device, uuid, mig_enabled)
        instances: tuple[LiveInstance, ...] = ()
        if mig_enabled:
            try:
                instances = self._instances(device, known)
            except NoSuchInstance:  # one has gone while we looked; twice is no coincidence
                instances = self._instances(device, known)
        signs = health.signs(self._nvml, device)
        return msgspec.structs.replace(
            known, unhealthy=self._quarantine.ailment(uuid, signs), instances=instances
        )

    def _instances(self, device: Device, gpu: LiveGpu) -> tuple[LiveInstance, ...]:
        """Return all GPU instances. None may be left out: what is not seen counts as gone."""
        used = in_use(self._nvml, device)
        device_of = self._device_of(device, gpu) if self._devices else lambda *_: None
        found = []
        for handle in gpu_instances.existing(self._nvml, device, gpu.geometry):
            each = gpu_instances.described(self._nvml, handle)
            found.append(
                LiveInstance(
                    each.gi_id,
                    each.profile_id,
                    each.placement,
                    each.gi_id in used,
                    device_of(handle, each),
                )
            )
        return tuple(sorted(found, key=lambda each: each.gi_id))

    def _device_of(
        self, device: Device, gpu: LiveGpu
    ) -> Callable[[GpuInstance, Described], LiveDevice | None]:
        """Return what tells the MIG device of a GPU instance, if its full one exists.

        That the device files are not told is the GPU's ailment, found before anything is created.
        """
        minor = gpus.minor(self._nvml, device)
        minors = device_files.minors(self._root, minor)

        def device_of(handle: GpuInstance, each: Described) -> LiveDevice | None:
            slices = gpu.geometry.by_id[each.profile_id].compute_slices
            full = compute_instances.full_device(self._nvml, handle, slices)
            if full is None:
                return None
            files = device_files.of_mig_device(
                self._root, minors, gpu=minor, gi_id=each.gi_id, ci_id=full.ci_id
            )
            return LiveDevice(full.uuid, files)

        return device_of

    def _mig_capable(self, device: Device, uuid: str, mig_enabled: bool) -> LiveGpu:
        """Return what does not change about a GPU as long as its MIG mode does not."""
        known = self.seen.get(uuid)
        if known is None or known.mig_enabled != mig_enabled:
            # Names are certain only while MIG mode is on.
            known = msgspec.structs.replace(
                self._described(device, uuid),
                geometry=profiles.geometry(self._nvml, device),
                mig_enabled=mig_enabled,
                unhealthy="",
            )
            if mig_enabled and not known.geometry.profiles:
                raise NotSupported("nvmlDeviceGetGpuInstanceProfileInfo")
        if known.vgpu_types:
            return known
        return msgspec.structs.replace(known, vgpu_types=vgpus.types(self._nvml, device))

    def _described(self, device: Device, uuid: str) -> LiveGpu:
        """Return what any GPU is."""
        address = host.pci_address(gpus.bus_id(self._nvml, device))
        return LiveGpu(
            uuid=uuid,
            pci_address=address,
            model=gpus.model(self._nvml, device),
            geometry=profiles.NOT_MIG_CAPABLE,
            numa_node=host.numa_node(self._root, address),
            mig_enabled=False,
            unhealthy=NOT_MIG_CAPABLE,
        )
