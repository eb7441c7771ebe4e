"""Taking over what a pod was given before us, or before our journal was lost.

A GPU instance that we did not make becomes ours, and so is destroyed once its pod has ended, only
if the plan says so: an assignment for exactly its place, and for the very pod that has its device.
Who has it, we know in one of two ways:

* The kubelet says that the pod has that device: it was served by another plugin. The inventory
  tells it, and the extender answers with the assignment.
* The kubelet says that the pod has the slot which an agent of this boot told for that assignment,
  together with this GPU instance as its own. Only the journal is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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
    if live.device is None or gpu.layout is not Layout.DYNAMIC:
        return None
    found = [each for each in holders if each.device == live.device.id]
    if len({each.pod.uid for each in found}) != 1:
        return None
    (holder, *_) = found
    return holder if gpu.served(mode).get(holder.resource) == live.profile_id else None


def adoptions(
    plan: Iterable[Assignment],
    host: Host,
    made: Iterable[Made],
    holders: Iterable[Holder],
    *,
    told: Inventory,
    claimed: Mapping[str, str],
) -> tuple[Made, ...]:
    """Return what the journal is to say of the GPU instances that the plan lets us adopt.

    *made* is what it says now, *told* the inventory as an agent told it last; *claimed* says which
    pod (UID) has the slot of each assignment.
    """
    known = {each.assignment for each in made}
    ours = {(each.gpu, each.placement) for each in made}
    gpus = {gpu.uuid: gpu for gpu in host.gpus}
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
        if not served and not ours_once:
            return None
        return Made(
            each.id,
            each.gpu,
            each.profile_id,
            each.placement,
            host.boot_id,
            adopted=bool(served),
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
