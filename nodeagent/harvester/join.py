"""What a GPU holds: NVML's GPU instances, the kernel's vGPUs and Harvester's objects as one.

A GPU instance has a device where exactly one vGPU is in it and a VGPUDevice declares that very
one. Whatever else is in it is somebody's, and makes it used: a vGPU that is being made or taken
away, and one that nobody has declared, which Harvester will remove (in 1.7 at its next look).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from nodeagent.api.keys import GPUS_ANNOTATION
from nodeagent.api.resources import of_vgpu_type
from nodeagent.driver import SRIOV_DISABLED, LiveDevice, LiveGpu, LiveInstance
from nodeagent.harvester.objects import MigConfiguration, Objects, VgpuDevice
from nodeagent.vgpu.interface import Vgpu
from nodeagent.vgpu.join import Seen

UNKNOWN_GPU = "Harvester does not know the GPU: is its addon pcidevices-controller enabled?"
TURNED_OFF = (
    "SR-IOV was disabled by hand, and so it stays: enable the GPU's SRIOVGPUDevice to have it used"
)
NO_LAYOUT = "Harvester has no MigConfiguration of the GPU yet"
NO_FUNCTIONS = "Harvester has yet to list the GPU's virtual functions"
NOT_NEUTRAL = (
    "Harvester's MigConfiguration asks for GPU instances of its own, which stay; only on a GPU"
    f" named in {GPUS_ANNOTATION} are they given up, once nobody uses any"
)
NOT_ENABLED = "Harvester's MigConfiguration is not enabled, so Harvester would delete GPU instances"
STILL_FROZEN = (
    "Harvester has yet to say that its MigConfiguration is disabled; if it ended before it could,"
    " it never will, and lets nobody change it: delete the MigConfiguration, and annotate the GPU's"
    " SRIOVGPUDevice, upon which Harvester makes another"
)


class Joined(msgspec.Struct, frozen=True):
    """A GPU with its virtual functions; ``vgpus`` are the vGPUs there are, by function."""

    gpu: LiveGpu
    devices: tuple[VgpuDevice, ...]
    vgpus: Mapping[str, Vgpu]

    def profile_of(self, device: VgpuDevice) -> int | None:
        """Return the profile that backs the type a device is wanted with, None if none does."""
        types = {each.name: each.profile_id for each in self.gpu.vgpu_types}
        return types.get(device.kind)

    def awaited(self, profile_id: int) -> tuple[VgpuDevice, ...]:
        """Return the devices that wait for a vGPU of the profile: Harvester may make it any time.

        After a reboot Harvester may still call them configured; the kernel knows better.
        """
        return tuple(
            each
            for each in self.devices
            if each.enabled
            and each.address not in self.vgpus
            and self.profile_of(each) == profile_id
        )

    def leaving(self, profile_id: int) -> tuple[VgpuDevice, ...]:
        """Return the devices whose vGPU of the profile Harvester may take away any time.

        Another may then be put where that was.
        """
        profiles: dict[int | None, int] = {e.gi_id: e.profile_id for e in self.gpu.instances}
        found = ((vgpu, self.device_of(vgpu)) for vgpu in self.vgpus.values())
        return tuple(
            device
            for vgpu, device in found
            if device is not None
            and not device.enabled
            and profile_id in (profiles.get(vgpu.gi_id), self.profile_of(device))
        )

    def vacant(self, profile_id: int) -> tuple[int, ...]:
        """Return the ids of the profile's GPU instances that a vGPU might be put into."""
        inside = {each.gi_id for each in self.vgpus.values()}
        return tuple(
            each.gi_id
            for each in self.gpu.instances
            if each.profile_id == profile_id and each.gi_id not in inside
        )

    def inside(self, gi_id: int) -> tuple[Vgpu, ...]:
        """Return the vGPUs in a GPU instance."""
        return tuple(each for each in self.vgpus.values() if each.gi_id == gi_id)

    def device_of(self, vgpu: Vgpu) -> VgpuDevice | None:
        """Return the object of a vGPU's virtual function."""
        return next((each for each in self.devices if each.address == vgpu.function), None)


def is_declared(device: VgpuDevice | None, vgpu: Vgpu) -> bool:
    """Tell whether *device* says that *vgpu* is to be, and is.

    The ``uuid`` is an mdev's UUID in 1.7 and the number of a type in 1.8.
    """
    return (
        device is not None
        and device.enabled
        and device.configured
        and device.uuid in (vgpu.id, str(vgpu.type_id))
    )


def join(gpu: LiveGpu, seen: Seen, objects: Objects, opened: frozenset[str]) -> Joined:
    """Give the GPU instances of *gpu* their devices, out of what the kernel has *seen*."""
    joined = Joined(
        gpu,
        objects.vgpus_of(gpu.pci_address),
        {vgpu.function: vgpu for vgpu in seen.vgpus},
    )
    reason = unready(gpu, seen, objects)
    mig = objects.mig(gpu.pci_address)
    instances = tuple(
        msgspec.structs.replace(each, in_use=True)
        if seen.trouble
        else _with_device(each, joined, objects, opened)
        for each in gpu.instances
    )
    told = msgspec.structs.replace(
        gpu,
        unhealthy=gpu.unhealthy or seen.trouble or reason,
        unready=not (gpu.unhealthy or seen.trouble) and bool(reason),
        cut_by_hand=mig is not None and mig.cut_by_hand,
        instances=instances,
    )
    return msgspec.structs.replace(joined, gpu=told)


def unready(gpu: LiveGpu, seen: Seen, objects: Objects) -> str:
    """Return why nothing new may be made on *gpu* yet, "" if it may.

    A GPU instance made while Harvester acts upon its MigConfiguration might be deleted, or joined
    by others.
    """
    known, mig = objects.gpu(gpu.pci_address), objects.mig(gpu.pci_address)
    if known is not None and known.turned_off and gpu.geometry.profiles:
        return TURNED_OFF
    if not gpu.mig_enabled:
        return ""  # which is told by itself
    if known is None:
        return UNKNOWN_GPU
    if not known.enabled or not seen.functions:
        return SRIOV_DISABLED
    if mig is None:
        return NO_LAYOUT
    if not mig.enabled:
        return STILL_FROZEN if _is_emptied_and_frozen(gpu, mig) else NOT_ENABLED
    if mig.asks:
        return NOT_NEUTRAL
    return "" if objects.vgpus_of(gpu.pci_address) else NO_FUNCTIONS


def _is_emptied_and_frozen(gpu: LiveGpu, mig: MigConfiguration) -> bool:
    """Tell whether Harvester has deleted all that *mig* asked for, but has not said so.

    It says so as it deletes them. Where it ends in between there is nothing left for it to delete
    (read in its source).
    """
    return mig.asks and mig.frozen and not gpu.instances


def _with_device(
    instance: LiveInstance, joined: Joined, objects: Objects, opened: frozenset[str]
) -> LiveInstance:
    inside = joined.inside(instance.gi_id)
    if not inside:
        return instance
    (vgpu, *others) = inside
    device = joined.device_of(vgpu)
    if others or device is None or not is_declared(device, vgpu):
        return msgspec.structs.replace(instance, in_use=True)
    return msgspec.structs.replace(
        instance,
        in_use=instance.in_use or vgpu.is_open(opened),
        device=LiveDevice(vgpu.id, vgpu.nodes),
        serves=of_vgpu_type(device.kind),
        keepers=objects.keepers.get(device.head.name, ()),
    )
