"""From what is on a GPU and what is planned for it to the steps between.

Destroy first, then create. At every moment, whatever the steps and wherever they stop:

* A GPU instance is destroyed only if we made it, the plan no longer wants it, and nobody holds it.
* A GPU instance is created only where nothing else is, be it ours or foreign.
* One that is as the plan wants it is left alone: so a restarted agent takes up its own. One that
  lacks its device is not: its creation was cut short, or the device has been taken away.
* Nothing is created while the driver might put its vGPU into another GPU instance of the profile.

A GPU instance made for an assignment that has left the plan is destroyed even where a new one wants
the very same profile and placement. Destroying scrubs its memory; handing it on would show one
tenant what another left behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Assignment, Layout
from nodeagent.api.keys import GPUS_ANNOTATION
from nodeagent.driver import Host, LiveGpu
from nodeagent.ownership import Observed


class Wanted(msgspec.Struct, frozen=True):
    """The GPU instance an assignment asks for, with a device for ``resource``.

    ``barred`` is why it may not be created now, "" if it may.
    """

    profile_id: int
    placement: Placement
    resource: str = ""
    barred: str = ""


class Destroy(msgspec.Struct, frozen=True):
    """Destroy our GPU instance: the plan no longer wants it and nobody holds it."""

    gi_id: int
    assignment: str


class Create(msgspec.Struct, frozen=True):
    """Create the GPU instance of an assignment; its placement is empty."""

    assignment: str
    profile_id: int
    placement: Placement
    resource: str = ""


class Blocked(msgspec.Struct, frozen=True):
    """Our GPU instance should go, but is held; it goes once it is released."""

    gi_id: int
    assignment: str
    reason: str


class Waiting(msgspec.Struct, frozen=True):
    """The assignment's GPU instance can be created once the one in its way has gone, or is done."""

    assignment: str
    gi_id: int


class Impossible(msgspec.Struct, frozen=True):
    """The assignment's GPU instance cannot be created, and nothing of ours will change that."""

    assignment: str
    reason: str


Step = Destroy | Create | Blocked | Waiting | Impossible


def steps(
    observed: Iterable[Observed], desired: Mapping[str, Wanted], *, closed: str = ""
) -> Iterator[Step]:
    """Yield the steps from *observed* to *desired* (by assignment id) on one GPU.

    Where two assignments overlap, the one with a GPU instance wins, then the first. *closed* is
    why the GPU takes no new ones, "" if it does.
    """
    staying: list[Observed] = []
    leaving: list[Observed] = []
    for each in observed:
        (leaving if _unwanted(each, desired) else staying).append(each)
    for each in leaving:
        if each.held:
            yield Blocked(each.gi_id, each.assignment, each.held)
        elif not each.standing:
            yield Destroy(each.gi_id, each.assignment)
    blocked = [each for each in leaving if each.held or each.standing]
    yield from _creations(staying, blocked, desired, closed)


def _creations(
    staying: Iterable[Observed],
    blocked: Sequence[Observed],
    desired: Mapping[str, Wanted],
    closed: str,
) -> Iterator[Step]:
    staying = tuple(staying)
    taken = {each.placement: each.assignment for each in staying}
    kept = {assignment for assignment in taken.values() if assignment in desired}
    for assignment, wanted in desired.items():
        if assignment in kept:
            continue
        mask = wanted.placement.mask
        obstacle = next((owner for place, owner in taken.items() if place.mask & mask), None)
        before = (*blocked, *(each for each in staying if each.assignment and each.unfinished))
        going = next(
            (e.gi_id for e in before if e.placement.mask & mask or _may_take_its_vgpu(e, wanted)),
            None,
        )
        if obstacle is not None:
            yield Impossible(assignment, _occupied_by(obstacle))
        elif going is not None:
            yield Waiting(assignment, going)
        elif reason := closed or wanted.barred:
            yield Impossible(assignment, reason)
        elif any(_may_take_its_vgpu(each, wanted) for each in staying):
            yield Impossible(assignment, _VACANT)
        else:
            yield Create(assignment, wanted.profile_id, wanted.placement, wanted.resource)
            taken[wanted.placement] = assignment


def _unwanted(observed: Observed, desired: Mapping[str, Wanted]) -> bool:
    """Tell whether we made what is *observed* and the plan does not want it (as it is).

    One that a pod holds is let be even if its device cannot be seen.
    """
    if not observed.assignment:
        return False
    wanted = desired.get(observed.assignment)
    useless = observed.device is None and not observed.held and not observed.unfinished
    return wanted is None or useless or not is_as_wanted(observed, wanted)


def is_as_wanted(observed: Observed, wanted: Wanted) -> bool:
    """Tell whether the GPU instance is the one an assignment asks for."""
    same_place = (observed.profile_id, observed.placement) == (wanted.profile_id, wanted.placement)
    return same_place and (not observed.serves or wanted.resource in observed.serves)


def _may_take_its_vgpu(observed: Observed, wanted: Wanted) -> bool:
    """Tell whether the driver, which chooses, might put the vGPU *wanted* into another one."""
    return observed.vacant and observed.profile_id == wanted.profile_id


_VACANT = "a free GPU instance of the same profile on this GPU would take the vGPU"


def _occupied_by(owner: str) -> str:
    if owner:
        return f"the placement overlaps that of assignment {owner}"
    return "a GPU instance that Tangram did not create occupies the placement"


def refusal(assignment: Assignment, host: Host) -> str:
    """Return why this node can never have the assignment's GPU instance, "" if it can."""
    gpu = next((gpu for gpu in host.gpus if gpu.uuid == assignment.gpu), None)
    if gpu is None:
        return f"the node has no GPU {assignment.gpu}"
    profile = gpu.geometry.by_id.get(assignment.profile_id)
    if profile is None:
        return f"the GPU has no profile {assignment.profile_id}"
    if assignment.placement not in profile.placements:
        return f"profile {profile.name} has no placement {{{assignment.start}}}:{assignment.size}"
    if gpu.served(host.mode).get(assignment.resource) != profile.id:
        return f"the GPU does not serve {assignment.resource} by profile {profile.name}"
    return ""


def closed(gpu: LiveGpu) -> str:
    """Return why *gpu* takes no new GPU instances now, "" if it does."""
    if gpu.layout is Layout.UNMANAGED:
        return f"the GPU is not Tangram's to use ({GPUS_ANNOTATION})"
    if gpu.unhealthy:
        return gpu.unhealthy
    if not gpu.mig_enabled:
        return "MIG mode is off"
    if gpu.layout is Layout.STATIC:
        return "the GPU's layout is static"
    return ""
