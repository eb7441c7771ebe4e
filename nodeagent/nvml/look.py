"""What is there now: every GPU and all that is on it. Looking changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import structlog

from nodeagent.driver import DriverError, GpuLost, LiveGpu, LiveInstance, NotSupported
from nodeagent.nvml import gpu_instances, gpus, health, host, profiles, vgpus
from nodeagent.nvml.gpus import Device
from nodeagent.nvml.session import Nvml
from nodeagent.nvml.use import in_use

log = structlog.get_logger()


class Look:
    """Reads the GPUs; *root* is where ``/proc`` and ``/sys`` are.

    It remembers what does not change (``seen``, as empty GPUs), so that a GPU which no longer
    answers can still be told of, in the place where it was.
    """

    def __init__(self, nvml: Nvml, root: Path) -> None:
        self.seen: dict[str, LiveGpu] = {}
        self._nvml = nvml
        self._root = root

    def gpus(self) -> tuple[LiveGpu, ...]:
        """Return every GPU that is or was there, each as it is now, or why that is not known."""
        now = {gpu.uuid: gpu for gpu in self._answering()}
        lost = str(GpuLost("nvmlDeviceGetHandleByIndex"))
        return tuple(
            now.get(uuid) or msgspec.structs.replace(known, unhealthy=lost)
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
                if uuid in self.seen:
                    yield msgspec.structs.replace(self.seen[uuid], unhealthy=str(error))
                else:
                    log.warning("gpu_not_readable", index=index, gpu=uuid, error=str(error))

    def _read(self, device: Device, uuid: str) -> LiveGpu:
        try:
            mig_enabled, _ = gpus.mig_mode(self._nvml, device)
        except NotSupported:
            return self._described(device, uuid, mig_capable=False)
        known = self.seen.get(uuid)
        if known is None or known.mig_enabled != mig_enabled:
            known = self._described(device, uuid, mig_capable=True)
            # Names are certain only while MIG mode is on.
            known = msgspec.structs.replace(known, mig_enabled=mig_enabled)
            self.seen[uuid] = known
        return msgspec.structs.replace(
            known,
            unhealthy=health.ailment(self._nvml, device),
            instances=tuple(self._instances(device, known)) if mig_enabled else (),
        )

    def _instances(self, device: Device, gpu: LiveGpu) -> list[LiveInstance]:
        used = in_use(self._nvml, device)
        found = gpu_instances.existing(self._nvml, device, gpu.geometry)
        return sorted(
            (
                LiveInstance(each.gi_id, each.profile_id, each.placement, each.gi_id in used)
                for each in found
            ),
            key=lambda each: each.gi_id,
        )

    def _described(self, device: Device, uuid: str, *, mig_capable: bool) -> LiveGpu:
        """Return what does not change about a GPU."""
        address = host.pci_address(gpus.bus_id(self._nvml, device))
        described = LiveGpu(
            uuid=uuid,
            pci_address=address,
            model=gpus.model(self._nvml, device),
            geometry=profiles.NOT_MIG_CAPABLE,
            numa_node=host.numa_node(self._root, address),
            mig_enabled=False,
            unhealthy=health.NOT_MIG_CAPABLE,
        )
        if mig_capable:
            described = msgspec.structs.replace(
                described,
                geometry=profiles.geometry(self._nvml, device),
                vgpu_types=vgpus.types(self._nvml, device),
                unhealthy="",
            )
        self.seen[uuid] = described
        return described
