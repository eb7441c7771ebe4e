"""Whose is a vGPU, and what does a GPU instance hold: NVML's look joined with the kernel's files.

* A GPU instance with an entry in the record has that entry's vGPU for its device and no other;
  whatever else sits in it makes it somebody's, and no device.
* A vGPU with an entry belongs to that entry's GPU instance alone. Found anywhere else, or when that
  is gone, it is a stray.
* A GPU instance without an entry (adopted, or the record was lost) has what is in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from nodeagent.driver import SRIOV_DISABLED, LiveDevice, LiveGpu, LiveInstance
from nodeagent.vgpu.interface import Vgpu
from nodeagent.vgpu.record import Entry


class Seen(msgspec.Struct, frozen=True):
    """What the kernel's files tell of a GPU.

    ``functions`` is how many virtual functions it has. ``trouble`` is why they cannot be read.
    """

    functions: int = 0
    vgpus: tuple[Vgpu, ...] = ()
    trouble: str = ""


class Joined(msgspec.Struct, frozen=True):
    """A GPU with its vGPUs.

    ``owners`` are the entries of its GPU instances, by GPU instance id; ``strays`` the vGPUs of
    ours that are where they should not be. ``inside`` are the vGPUs in each GPU instance.
    """

    gpu: LiveGpu
    owners: Mapping[int, Entry]
    strays: tuple[Vgpu, ...]
    inside: Mapping[int, tuple[Vgpu, ...]]

    def may_take(self, profile_id: int) -> bool:
        """Tell whether the driver might put a new vGPU into one that is there already."""
        return any(
            each.profile_id == profile_id and not self.inside.get(each.gi_id)
            for each in self.gpu.instances
        )


def join(
    gpu: LiveGpu, seen: Seen, entries: Iterable[Entry], opened: frozenset[str] = frozenset()
) -> Joined:
    """Give the GPU instances of *gpu* their vGPUs; *entries* are those of this GPU and boot."""
    entries = tuple(entries)
    owners = _owners(gpu, entries)
    inside: dict[int, tuple[Vgpu, ...]] = {}
    for vgpu in seen.vgpus:
        if vgpu.gi_id is not None:
            inside[vgpu.gi_id] = (*inside.get(vgpu.gi_id, ()), vgpu)
    if seen.trouble:
        instances = [msgspec.structs.replace(each, in_use=True) for each in gpu.instances]
    else:
        instances = [
            _with_device(each, inside.get(each.gi_id, ()), owners.get(each.gi_id), entries, opened)
            for each in gpu.instances
        ]
    told = msgspec.structs.replace(
        gpu, unhealthy=gpu.unhealthy or _ailment(gpu, seen), instances=tuple(instances)
    )
    return Joined(told, owners, _strays(owners, seen.vgpus, entries), inside)


def settled(gpu: LiveGpu, seen: Seen, entries: Iterable[Entry]) -> dict[Entry, Entry | None]:
    """Return what each entry is to be replaced by, for a vGPU or all of it is gone.

    A GPU that is not well may not list all it holds, and what cannot be read may be there.
    """
    if gpu.unhealthy or not gpu.mig_enabled or seen.trouble:
        return {}
    there = {(each.profile_id, each.placement) for each in gpu.instances}
    changes: dict[Entry, Entry | None] = {}
    for entry in entries:
        if any(entry.owns(vgpu) for vgpu in seen.vgpus):
            continue
        if (entry.profile_id, entry.placement) not in there:
            changes[entry] = None
        elif entry.vgpu is not None:
            changes[entry] = msgspec.structs.replace(entry, vgpu=None)
    return changes


def _owners(gpu: LiveGpu, entries: Iterable[Entry]) -> dict[int, Entry]:
    """Return the entry of each GPU instance; an older one of its place is of one that has gone."""
    latest = {(entry.profile_id, entry.placement): entry for entry in entries}
    places = {each.gi_id: (each.profile_id, each.placement) for each in gpu.instances}
    return {gi_id: latest[place] for gi_id, place in places.items() if place in latest}


def _strays(
    owners: Mapping[int, Entry], vgpus: Iterable[Vgpu], entries: Iterable[Entry]
) -> tuple[Vgpu, ...]:
    """Return our vGPUs that are in a GPU instance of others, or whose own has gone."""
    homes = {entry: gi_id for gi_id, entry in owners.items()}

    def is_stray(vgpu: Vgpu, entry: Entry) -> bool:
        # Where the driver does not say, it may well be at home.
        return entry not in homes or vgpu.gi_id not in (None, homes[entry])

    return tuple(
        vgpu
        for vgpu in vgpus
        if any(entry.owns(vgpu) and is_stray(vgpu, entry) for entry in entries)
    )


def _with_device(
    instance: LiveInstance,
    inside: tuple[Vgpu, ...],
    owner: Entry | None,
    entries: tuple[Entry, ...],
    opened: frozenset[str],
) -> LiveInstance:
    if not inside:
        return instance
    if len(inside) == 1 and _is_its_own(inside[0], owner, entries):
        return msgspec.structs.replace(
            instance,
            in_use=instance.in_use or inside[0].is_open(opened),
            device=LiveDevice(inside[0].id, inside[0].nodes),
        )
    return msgspec.structs.replace(instance, in_use=True)


def _is_its_own(vgpu: Vgpu, owner: Entry | None, entries: tuple[Entry, ...]) -> bool:
    if owner is not None:
        return owner.owns(vgpu)
    return not any(entry.owns(vgpu) for entry in entries)


def _ailment(gpu: LiveGpu, seen: Seen) -> str:
    if seen.trouble:
        return seen.trouble
    return SRIOV_DISABLED if gpu.mig_enabled and not seen.functions else ""
