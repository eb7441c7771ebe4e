"""Whose is a GPU instance: ours if the journal has it, of this boot, exactly as it is.

GPU instance ids are reused and tell nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

import msgspec

from nodeagent.adoption import holder_of, is_free, stands
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Mode, OwnerRef
from nodeagent.driver import Host, LiveDevice, LiveGpu, LiveInstance
from nodeagent.journal import Made
from nodeagent.kubelet import Holder


class Observed(msgspec.Struct, frozen=True):
    """A GPU instance that exists.

    ``assignment`` is what we made it for, "" if it is foreign. ``held`` is why it cannot be
    destroyed now, "" if it can. Without a ``device`` it is of no use to anybody; a ``vacant`` one
    is where the driver may put the next vGPU of its profile. ``holder`` is who has one that is
    foreign, or not planned any more.

    With Harvester: an ``unfinished`` one has yet to get its device, which ``serves`` these names; a
    ``standing`` one is there for whoever comes, and stays; ``holder`` may also have what was meant
    for another pod, ``keepers`` are whose it stays.
    """

    gi_id: int
    profile_id: int
    placement: Placement
    assignment: str = ""
    held: str = ""
    device: LiveDevice | None = None
    vacant: bool = False
    holder: Holder | None = None
    unfinished: bool = False
    standing: bool = False
    serves: tuple[str, ...] = ()
    keepers: tuple[OwnerRef, ...] = ()


def observe(
    gpu: LiveGpu,
    made: Iterable[Made],
    host: Host,
    *,
    claimed: Collection[str] = (),
    stuck: Mapping[int, str] | None = None,
    holders: Sequence[Holder] = (),
    unplanned: Sequence[Holder] = (),
    pods: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Observed, ...]:
    """Tell our GPU instances on *gpu* of *host* from foreign ones, and the held from the idle.

    *claimed* are the assignments whose device the kubelet has given to a pod that still runs,
    *holders* the pods that have one from elsewhere, *unplanned* those that have what we made for
    them and no plan says so; *stuck* says, by GPU instance id, why the driver has just refused to
    destroy it. *pods* are the UIDs of the planned ones, by assignment.

    What another plugin has given away of ours is told of nobody: it may be offered as a slot again.
    """
    elsewhere = host.mode is Mode.HARVESTER
    ours = [each for each in made if each.boot_id == host.boot_id and each.gpu == gpu.uuid]

    def seen(live: LiveInstance) -> Observed:
        owner = next((each.assignment for each in ours if _is(live, gpu, each)), "")
        held = (stuck or {}).get(live.gi_id, "")
        if live.in_use:
            held = "in use by a client"
        elif owner in claimed:
            held = "claimed by a pod"
        among = holders if elsewhere or not owner else unplanned
        holder = holder_of(live, gpu, host.mode, among)
        well = not gpu.unhealthy or gpu.unready
        free = elsewhere and well and not held and owner not in pods and is_free(live, holders)
        return Observed(
            live.gi_id,
            live.profile_id,
            live.placement,
            owner,
            held,
            live.device,
            vacant=live.device is None and host.mode is not Mode.CONTAINER,
            holder=holder,
            unfinished=elsewhere and live.device is None and not live.in_use,
            standing=free and stands(live, ours=bool(owner)),
            serves=live.serves,
            keepers=live.keepers,
        )

    return tuple(map(seen, gpu.instances))


Place = tuple[str, int, Placement]
"""A GPU's UUID, and there a profile's id and a placement."""


def remembered(
    made: Iterable[Made], host: Host, *, destroyed: Collection[Place] = ()
) -> tuple[Made, ...]:
    """Return what of the journal is still true: its GPU instance exists, or may exist unseen.

    A reboot ends every GPU instance. A GPU that is missing or unhealthy may not list all it holds,
    but for what was *destroyed* just before this look and is not in its list: what is found there
    later is somebody else's. An unanswered creation may still come to be. What is seen is
    unanswered no longer.
    """
    gpus = {gpu.uuid: gpu for gpu in host.gpus}

    def kept(each: Made) -> Made | None:
        gpu = gpus.get(each.gpu)
        if each.boot_id != host.boot_id:
            return None
        if gpu is not None and any(_is(live, gpu, each) for live in gpu.instances):
            return msgspec.structs.replace(each, unanswered=False)
        place = (each.gpu, each.profile_id, each.placement)
        gone = gpu is not None and (not gpu.unhealthy or (gpu.listed and place in destroyed))
        return each if each.unanswered or not gone else None

    return tuple(it for each in made if (it := kept(each)))


def _is(live: LiveInstance, gpu: LiveGpu, made: Made) -> bool:
    """Tell whether the *live* one on *gpu* is the one that was *made*."""
    found = (gpu.uuid, live.profile_id, live.placement)
    return found == (made.gpu, made.profile_id, made.placement)


def only_unplanned(
    observed: Mapping[str, Sequence[Observed]], pods: Mapping[str, str]
) -> dict[str, tuple[Observed, ...]]:
    """Leave the holders out that have what was planned for them, and nothing else.

    *pods* are the UIDs of the planned ones, by assignment. Of a pod that has anything else, all
    that it has is told.
    """
    elsewhere = {
        each.holder.pod.uid
        for every in observed.values()
        for each in every
        if each.holder and pods.get(each.assignment) != each.holder.pod.uid
    }
    return {
        gpu: tuple(
            msgspec.structs.replace(each, holder=None)
            if each.holder and each.holder.pod.uid not in elsewhere
            else each
            for each in every
        )
        for gpu, every in observed.items()
    }
