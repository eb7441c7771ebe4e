"""Who has what the plan has lost: a GpuNode deleted by hand comes again without its entries.

The GPU instance stays while its pod has it. The inventory tells whose it is, as it does of a VM
that ran before us, and the extender writes the entry again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Assignment, Inventory, PodRef
from nodeagent.driver import Host, LiveDevice
from nodeagent.journal import Made
from nodeagent.kubelet import Holder


class Meant(msgspec.Struct, frozen=True):
    """Whose an assignment was, and for what."""

    pod: PodRef
    resource: str


class Unplanned:
    """Remembers what plans have said, for as long as their pods have it."""

    def __init__(self) -> None:
        self._known: dict[str, Meant] | None = None

    def holders(
        self,
        plan: Iterable[Assignment],
        host: Host,
        made: Iterable[Made],
        *,
        told: Inventory,
        kept: Iterable[Assignment],
        claimed: Mapping[str, str],
    ) -> tuple[Holder, ...]:
        """Return who has a GPU instance of ours whose assignment has left the plan.

        That the kubelet has given a pod another's slot is not told: what is written for a pod is
        what was written for it before. *told* is the inventory as an agent told it last, perhaps
        one before this, and *kept* the plan that it took account of: that serves the first time.
        *claimed* says which pod (UID) has the slot of each assignment.
        """
        planned = _meant(plan)
        known = _said(told) | (_meant(kept) if self._known is None else self._known)
        lost = {
            id: meant
            for id, meant in known.items()
            if id not in planned and claimed.get(id) == meant.pod.uid
        }
        self._known = planned | lost
        devices = _devices(host)
        return tuple(
            Holder(lost[each.assignment].resource, device.id, lost[each.assignment].pod)
            for each in made
            if each.boot_id == host.boot_id
            and each.assignment in lost
            and (device := devices.get((each.gpu, each.profile_id, each.placement)))
        )


def _meant(plan: Iterable[Assignment]) -> dict[str, Meant]:
    return {each.id: Meant(each.pod, each.resource) for each in plan if each.pod}


def _said(told: Inventory) -> dict[str, Meant]:
    return {
        each.assignment: Meant(each.holder, each.resource)
        for gpu in told.gpus
        for each in gpu.instances
        if each.assignment and each.holder
    }


def _devices(host: Host) -> dict[tuple[str, int, Placement], LiveDevice]:
    return {
        (gpu.uuid, live.profile_id, live.placement): live.device
        for gpu in host.gpus
        for live in gpu.instances
        if live.device is not None
    }
