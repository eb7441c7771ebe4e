"""Taking over what a pod was given before us, or before our journal was lost.

A GPU instance that we did not make becomes ours, and so is destroyed once its pod has ended, only
if the plan says so: an assignment for exactly its place, and for the very pod that has its device.
Who has it, we know in one of two ways:

* The kubelet says that the pod has that device: it was served by another plugin. The inventory
  tells it, and the extender answers with the assignment.
* The kubelet says that the pod has the slot which an agent of this boot told for that assignment,
  together with this GPU instance as its own. Only the journal is lost.

With Harvester a device may also stand there for whoever comes: a VM that is off keeps it, or it is
part of a static layout. Then the plan alone says whose it is to be. So it does where a pod was
given another device than what was meant for it: that, which nobody has had, may be another's.

What was cut by hand is lent and never becomes ours, though its GPU may have been named for us to
cut since: Harvester makes such a GPU instance anew, wherever the driver likes, as soon as the GPU
is empty, and deletes it itself once an administrator has disabled what is enabled there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from nodeagent.api.gpunode import Assignment, Inventory, Layout, Mode
from nodeagent.driver import Host, LiveGpu, LiveInstance
from nodeagent.journal import Made
from nodeagent.kubelet import Holder


def holder_of(
    live: LiveInstance, gpu: LiveGpu, mode: Mode, holders: Iterable[Holder]
) -> Holder | None:
    """Return which of *holders* has the GPU instance, where an assignment may stand for it.

    It may not where two pods seem to have it, where the pod asked for a resource that this GPU does
    not serve by such a GPU instance, and where the GPU is not ours to use.
    """
    usable = gpu.layout is Layout.DYNAMIC or mode is Mode.HARVESTER
    if live.device is None or not usable:
        return None
    found = [each for each in holders if each.device == live.device.id]
    if len({each.pod.uid for each in found}) != 1:
        return None
    (holder, *_) = found
    return holder if gpu.served(mode).get(holder.resource) == live.profile_id else None


def stands(live: LiveInstance, *, ours: bool) -> bool:
    """Tell whether a device stays when nobody has it; *ours* is whether we made its GPU instance.

    A VM that is off may keep it, and what we have not made is not ours to take away.
    """
    return live.device is not None and (bool(live.keepers) or not ours)


def is_free(live: LiveInstance, holders: Iterable[Holder]) -> bool:
    """Tell whether a device is there that nobody has, as far as anybody can tell."""
    device = live.device
    return (
        device is not None and not live.in_use and all(each.device != device.id for each in holders)
    )


def adoptions(
    plan: Iterable[Assignment],
    host: Host,
    made: Iterable[Made],
    holders: Iterable[Holder],
    *,
    told: Inventory,
    claimed: Mapping[str, str],
    unused: Collection[str] = (),
) -> tuple[Made, ...]:
    """Return what the journal is to say of the GPU instances that the plan lets us adopt.

    *made* is what it says now, *told* the inventory as an agent told it last; *claimed* says which
    pod (UID) has the slot of each assignment. Nobody has had what was made for the *unused*.
    """
    plan = tuple(plan)
    made = tuple(made)
    planned = {each.id for each in plan}
    known = {each.assignment for each in made}
    ours = {
        (each.gpu, each.placement): each
        for each in made
        # With Harvester an earlier VM's may be another's by now: by the plan, or by the kubelet.
        if host.mode is not Mode.HARVESTER or each.assignment in planned
    }
    gpus = {gpu.uuid: gpu for gpu in host.gpus}
    made_by_us = {(each.gpu, each.placement) for each in made if not each.lent}
    passed_on = {(each.gpu, each.placement) for each in made if each.assignment in unused}
    holding = tuple(holders)

    def adopted(each: Assignment) -> Made | None:
        gpu = gpus.get(each.gpu)
        if (
            gpu is None
            or each.pod is None
            or each.id in known
            or (gpu.uuid, each.placement) in ours
        ):
            return None
        live = next((it for it in gpu.instances if _is_at(it, each)), None)
        if live is None:
            return None
        holder = holder_of(live, gpu, host.mode, holding)
        served = holder and (holder.pod.uid, holder.resource) == (each.pod.uid, each.resource)
        ours_once = claimed.get(each.id) == each.pod.uid and _told_as_ours(live, each, host, told)
        by_us = (gpu.uuid, each.placement) in made_by_us
        standing = (
            host.mode is Mode.HARVESTER
            and each.resource in live.serves
            and is_free(live, holding)
            and (stands(live, ours=by_us) or (gpu.uuid, each.placement) in passed_on)
        )
        if not served and not ours_once and not standing:
            return None
        return Made(
            each.id,
            each.gpu,
            each.profile_id,
            each.placement,
            host.boot_id,
            adopted=bool(served),
            lent=(gpu.layout is Layout.STATIC or gpu.cut_by_hand) and not by_us,
        )

    return tuple(it for each in plan if (it := adopted(each)))


def _is_at(live: LiveInstance, assignment: Assignment) -> bool:
    return (live.profile_id, live.placement) == (assignment.profile_id, assignment.placement)


def _told_as_ours(live: LiveInstance, assignment: Assignment, host: Host, told: Inventory) -> bool:
    return told.boot_id == host.boot_id and any(
        (each.assignment, each.gi_id, each.placement) == (assignment.id, live.gi_id, live.placement)
        for gpu in told.gpus
        if gpu.uuid == assignment.gpu
        for each in gpu.instances
    )
