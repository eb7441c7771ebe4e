"""Which assignments are over though their pods may not know it yet.

A VM whose GPU instance has gone under it never gets another: its launcher is not started again, and
could do nothing with one. A container is started again by its kubelet, and gets one again by its
slot; but not one that has its device from another plugin, under a name that is no more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from nodeagent.api.gpunode import Assignment, Inventory, Mode
from nodeagent.driver import Host

REBOOTED = "the node has rebooted since; its GPU instance is gone"
GONE = "its GPU instance is gone, by a GPU reset or by somebody's hand; its pod gets no other"


def ended(
    plan: Iterable[Assignment],
    before: Inventory,
    host: Host,
    *,
    had: Collection[str],
    adopted: Collection[str],
) -> Mapping[str, str]:
    """Return why assignments of the *plan* are over.

    *before* is the inventory as it was told last: what was over then stays so. *had* are the
    assignments whose slot a pod has, or has had; *adopted* those whose pod never needed one.
    """
    vms = host.mode is not Mode.CONTAINER
    over = {each.id: each.reason for each in before.failed if each.reason in (REBOOTED, GONE)}
    slotless = {*adopted, *(each.id for each in before.realized if not each.slot)}
    if before.boot_id and before.boot_id != host.boot_id:
        told = {each.id for each in before.realized}
        over |= dict.fromkeys(told if vms else told & slotless, REBOOTED)
    handed = slotless.union(had if vms else ())
    for each in plan:
        if each.id in handed and _missing(each, host):
            over.setdefault(each.id, GONE)
    return over


def _missing(assignment: Assignment, host: Host) -> bool:
    """Tell whether a GPU that shows all it has lacks the assignment's GPU instance."""
    gpu = next((gpu for gpu in host.gpus if gpu.uuid == assignment.gpu), None)
    return (
        gpu is not None
        and not gpu.unhealthy
        and (assignment.profile_id, assignment.placement)
        not in {(live.profile_id, live.placement) for live in gpu.instances}
    )
