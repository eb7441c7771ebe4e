"""What to write next: values in, one safe write out.

For a GPU instance that waits for its device::

    empty, nobody else's is ─▶ enable a VGPUDevice that offers the type ─▶ wait until it is made
                                     │ none does                             │ in another instance
                                     └─▶ touch one, and wait                 └─▶ disable that one

For a GPU that is ours to cut::

    no functions, if told to and                   asks for instances, named by the administrator,
    if nobody has disabled them                    nobody uses any
          └─▶ enable them                               └─▶ disabled, and Harvester has said so
                                                                 └─▶ enabled, asking for none
    handed back, nothing of ours left
          └─▶ touched, if its counts are frozen, and Harvester thaws them ─▶ disabled

Each follows from what is there and nothing else, so whatever was cut off is gone on with. The
driver chooses the GPU instance of a vGPU, so on a GPU none is enabled while another of its profile
is leaving, nor disabled while one is awaited that could go where it was.

Never disabled: what a VM names as its own (Harvester would refuse), and a VGPUDevice without a
``uuid``. Where that is empty, Harvester 1.7 joins the path of the file that removes the vGPU
without it, and what is left of it takes the virtual function itself off the bus. Nor a
MigConfiguration whose counts are frozen while its GPU is empty: Harvester thaws them as it looks at
an enabled one, and of a disabled one they would stay frozen for good (both read in its source).
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from nodeagent.api.gpunode import Layout
from nodeagent.api.resources import of_vgpu_type
from nodeagent.driver import LiveGpu
from nodeagent.harvester.join import Joined, is_declared
from nodeagent.harvester.objects import MigConfiguration, Objects, SriovGpuDevice, VgpuDevice


class Enable(msgspec.Struct, frozen=True):
    """Have a vGPU made."""

    device: VgpuDevice
    type_name: str
    assignment: str


class Touch(msgspec.Struct, frozen=True):
    """Have Harvester look anew what may be made on a device, and note for which assignment."""

    device: VgpuDevice
    assignment: str


class Disable(msgspec.Struct, frozen=True):
    """Have a vGPU taken away."""

    device: VgpuDevice


class EnableFunctions(msgspec.Struct, frozen=True):
    """Have a GPU's virtual functions enabled."""

    gpu: SriovGpuDevice


class Configure(msgspec.Struct, frozen=True):
    """Have a MigConfiguration ask for nothing, enabled or not; ``ours`` is whether we mark it."""

    mig: MigConfiguration
    enabled: bool
    ours: bool


class TouchLayout(msgspec.Struct, frozen=True):
    """Have Harvester look anew at a neutral MigConfiguration whose GPU is empty."""

    mig: MigConfiguration


class Wait(msgspec.Struct, frozen=True):
    """Write nothing now; ``reason`` is for people."""

    reason: str


Write = Enable | Touch | Disable | EnableFunctions | Configure | TouchLayout

MAKING = "Harvester has yet to make the vGPU"
NOT_OFFERED = "no VGPUDevice offers the type yet: Harvester looks every 30 seconds"
NO_TYPE = "no vGPU type of the GPU is asked for by that name"
RIVAL = "another free GPU instance of the profile is on the GPU, and the driver chooses"
ASTRAY = "Harvester has the vGPU in another GPU instance"
LEAVING = "Harvester is about to take a vGPU of the profile away, and the driver chooses"


def further(
    joined: Joined,
    gi_id: int,
    assignment: str,
    resource: str,
    *,
    named: Collection[str],
    held: Collection[str] = (),
) -> Enable | Touch | Disable | Wait:
    """Return how to go on with the empty GPU instance *gi_id*, which is to serve *resource*.

    *named* are the names of the VGPUDevices that VMs name as theirs, *held* the ids of the devices
    that pods have.

    Harvester reads what may be made on a virtual function when its object has changed, and every
    30 seconds. That a change which means nothing will do is read in its source, and has not been
    tried; without it, it takes longer.
    """
    profile_id = next((i.profile_id for i in joined.gpu.instances if i.gi_id == gi_id), None)
    type_name = next(
        (
            each.name
            for each in joined.gpu.vgpu_types
            if each.profile_id == profile_id and resource in of_vgpu_type(each.name)
        ),
        "",
    )
    if profile_id is None or not type_name:
        return Wait(NO_TYPE)
    for device in joined.devices:
        if device.enabled and device.assignment == assignment and device.address in joined.vgpus:
            vgpu = joined.vgpus[device.address]
            if vgpu.gi_id in (None, gi_id):
                return Wait(MAKING)
            in_use = vgpu.id in held or not may_be_disabled(device, joined, named)
            return Wait(ASTRAY) if in_use or joined.awaited(profile_id) else Disable(device)
    if joined.awaited(profile_id):
        return Wait(MAKING)
    if joined.leaving(profile_id):
        return Wait(LEAVING)
    if joined.vacant(profile_id) != (gi_id,):
        return Wait(RIVAL)
    free = [device for device in joined.devices if _is_free(device, joined)]
    offering = next((each for each in free if type_name in each.available), None)
    if offering is not None:
        return Enable(offering, type_name, assignment)
    if free and not any(each.assignment == assignment for each in free):
        return Touch(free[0], assignment)
    return Wait(NOT_OFFERED)


def may_be_disabled(device: VgpuDevice, joined: Joined, named: Collection[str]) -> bool:
    """Tell whether to disable a device is safe, and would not be refused."""
    vgpu = joined.vgpus.get(device.address)
    return vgpu is not None and is_declared(device, vgpu) and device.head.name not in named


def leftovers(
    joined: Joined, *, planned: Collection[str], named: Collection[str]
) -> tuple[Disable, ...]:
    """Return what we once enabled and nobody wants, of which a reboot has left the object alone.

    It would take the next GPU instance of its profile. With a ``uuid`` Harvester knows which vGPU
    to remove, which is gone already; that it then only clears the object is inferred.

    On a GPU cut by hand an administrator has enabled what is enabled, whatever we once noted on it:
    a device that was touched for an assignment, and never enabled, still tells of that.
    """
    if joined.gpu.cut_by_hand:
        return ()
    return tuple(
        Disable(device)
        for device in joined.devices
        if device.enabled
        and device.assignment
        and device.assignment not in planned
        and device.uuid
        and device.address not in joined.vgpus
        and device.head.name not in named
        and not joined.vacant(-1 if (it := joined.profile_of(device)) is None else it)
    )


def layout(
    gpu: LiveGpu, objects: Objects, *, ours: bool, functions: bool
) -> EnableFunctions | Configure | TouchLayout | None:
    """Return what is to be written about the layout of *gpu*, None if nothing is, or not now.

    *ours* is whether it holds anything of ours; *functions* whether to enable virtual functions,
    upon which Harvester turns MIG mode on where the GPU knows it.
    Nobody is overruled: functions that somebody has disabled stay so until he enables them again.
    What somebody has cut by hand is given up only where *gpu* is ours in spite of it: whoever said
    so knew of it, as opposed to one who was faster than this look.
    """
    known, mig = objects.gpu(gpu.pci_address), objects.mig(gpu.pci_address)
    devices = objects.vgpus_of(gpu.pci_address)
    idle = not ours and not any(each.enabled for each in devices)
    if gpu.layout is not Layout.DYNAMIC:
        marked = mig is not None and mig.ours and mig.neutral
        left = marked and idle and not gpu.instances
        return _handed_back(mig) if mig and left else None
    if known is None:
        return None
    if not known.enabled:
        capable = gpu.geometry.profiles and not gpu.instances
        return EnableFunctions(known) if functions and capable and not known.turned_off else None
    if not gpu.mig_enabled or mig is None:
        return None
    if mig.neutral:
        return Configure(mig, enabled=True, ours=True) if mig.leaving else None
    if not mig.enabled:
        refused = mig.asks and mig.frozen
        return None if refused else Configure(mig, enabled=True, ours=True)
    # Harvester takes its own GPU instances away as it is disabled, and only then lets the counts
    # be changed.
    used = any(each.in_use or each.device is not None for each in gpu.instances)
    lasting = mig.frozen and not gpu.instances
    given_up = gpu.cut_by_hand and idle and not used and not lasting
    return Configure(mig, enabled=False, ours=False) if given_up else None


def _handed_back(mig: MigConfiguration) -> Configure | TouchLayout | None:
    """Return what hands back a neutral layout whose GPU is empty: disable it once it is thawed.

    It is touched once. A Harvester that does not heed that looks every five minutes.
    """
    if not mig.frozen:
        return Configure(mig, enabled=False, ours=False)
    return None if mig.leaving else TouchLayout(mig)


def _is_free(device: VgpuDevice, joined: Joined) -> bool:
    return not device.enabled and not device.configured and device.address not in joined.vgpus
