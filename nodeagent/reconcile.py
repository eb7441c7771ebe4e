"""From what is on a GPU and what is planned for it to the steps between.

Destroy first, then create. At every moment, whatever the steps and wherever they stop:

* An instance is destroyed only if we made it, the plan no longer wants it, and nobody holds it.
* An instance is created only where nothing else is, be it ours or foreign.
* An instance that is as the plan wants it is left alone: so a restarted agent takes up its own.

An instance made for an assignment that has left the plan is destroyed even where a new assignment
wants the very same profile and placement. Destroying scrubs its memory; handing it on would show
one tenant what another left behind.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

import msgspec

from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Assignment, Layout
from nodeagent.driver import Host, LiveGpu, LiveInstance


class Made(msgspec.Struct, frozen=True):
    """An instance we made or are about to make: what the journal remembers."""

    assignment: str
    gpu: str
    profile_id: int
    placement: Placement
    boot_id: str

    def describes(self, gpu: str, instance: LiveInstance) -> bool:
        """Tell whether *instance* on *gpu* is this one; ids are reused and tell nothing."""
        return (self.gpu, self.profile_id, self.placement) == (
            gpu,
            instance.profile_id,
            instance.placement,
        )


class Observed(msgspec.Struct, frozen=True):
    """A GPU instance that exists.

    ``assignment`` is what we made it for, "" if it is foreign. ``held`` is why it cannot be
    destroyed now, "" if it can.
    """

    gi_id: int
    profile_id: int
    placement: Placement
    assignment: str = ""
    held: str = ""


class Wanted(msgspec.Struct, frozen=True):
    """The instance an assignment asks for."""

    profile_id: int
    placement: Placement


class Destroy(msgspec.Struct, frozen=True):
    """Destroy our instance: the plan no longer wants it and nobody holds it."""

    gi_id: int
    assignment: str


class Create(msgspec.Struct, frozen=True):
    """Create the instance of an assignment; its placement is empty."""

    assignment: str
    profile_id: int
    placement: Placement


class Blocked(msgspec.Struct, frozen=True):
    """Our instance should go, but is held; it goes once it is released."""

    gi_id: int
    assignment: str
    reason: str


class Waiting(msgspec.Struct, frozen=True):
    """The assignment's instance can be created once the blocked one in its place has gone."""

    assignment: str
    gi_id: int


class Impossible(msgspec.Struct, frozen=True):
    """The assignment's instance cannot be created, and nothing of ours will change that."""

    assignment: str
    reason: str


Step = Destroy | Create | Blocked | Waiting | Impossible


def steps(
    observed: Iterable[Observed], desired: Mapping[str, Wanted], *, closed: str = ""
) -> Iterator[Step]:
    """Yield the steps from *observed* to *desired* (by assignment id) on one GPU.

    Where two assignments overlap, the one with an instance wins, then the first. *closed* is why
    the GPU takes no new instances, "" if it does.
    """
    staying: list[Observed] = []
    leaving: list[Observed] = []
    for instance in observed:
        (leaving if _unwanted(instance, desired) else staying).append(instance)
    for instance in leaving:
        if instance.held:
            yield Blocked(instance.gi_id, instance.assignment, instance.held)
        else:
            yield Destroy(instance.gi_id, instance.assignment)
    yield from _creations(
        staying, [instance for instance in leaving if instance.held], desired, closed
    )


def _creations(
    staying: Iterable[Observed],
    blocked: Iterable[Observed],
    desired: Mapping[str, Wanted],
    closed: str,
) -> Iterator[Step]:
    taken = {instance.placement: instance.assignment for instance in staying}
    kept = {assignment for assignment in taken.values() if assignment in desired}
    for assignment, wanted in desired.items():
        if assignment in kept:
            continue
        mask = wanted.placement.mask
        obstacle = next((owner for place, owner in taken.items() if place.mask & mask), None)
        going = next((each.gi_id for each in blocked if each.placement.mask & mask), None)
        if obstacle is not None:
            yield Impossible(assignment, _occupied_by(obstacle))
        elif going is not None:
            yield Waiting(assignment, going)
        elif closed:
            yield Impossible(assignment, closed)
        else:
            yield Create(assignment, wanted.profile_id, wanted.placement)
            taken[wanted.placement] = assignment


def _unwanted(instance: Observed, desired: Mapping[str, Wanted]) -> bool:
    """Tell whether we made *instance* and the plan does not want it (as it is)."""
    is_as = Wanted(instance.profile_id, instance.placement)
    return bool(instance.assignment) and desired.get(instance.assignment) != is_as


def _occupied_by(owner: str) -> str:
    if owner:
        return f"the placement overlaps that of assignment {owner}"
    return "a GPU instance that Tangram did not create occupies the placement"


def observe(
    gpu: LiveGpu,
    made: Iterable[Made],
    *,
    boot_id: str,
    claimed: Collection[str] = (),
    stuck: Mapping[int, str] | None = None,
) -> tuple[Observed, ...]:
    """Tell our instances on *gpu* from foreign ones, and the held ones from the idle.

    *claimed* are the assignments whose device the kubelet has given to a pod that still runs;
    *stuck* says, by GPU instance id, why the driver has just refused to destroy it.
    """
    ours = [each for each in made if each.boot_id == boot_id and each.gpu == gpu.uuid]

    def seen(instance: LiveInstance) -> Observed:
        owner = next((e.assignment for e in ours if e.describes(gpu.uuid, instance)), "")
        held = (stuck or {}).get(instance.gi_id, "")
        if instance.in_use:
            held = "in use by a client"
        elif owner in claimed:
            held = "claimed by a pod"
        return Observed(instance.gi_id, instance.profile_id, instance.placement, owner, held)

    return tuple(map(seen, gpu.instances))


def remembered(made: Iterable[Made], host: Host) -> tuple[Made, ...]:
    """Return what of the journal is still true: its instance exists, or may exist unseen.

    A reboot ends every GPU instance. A GPU that is missing or unhealthy may not list all it holds.
    """
    gpus = {gpu.uuid: gpu for gpu in host.gpus}

    def true(each: Made) -> bool:
        gpu = gpus.get(each.gpu)
        if each.boot_id != host.boot_id:
            return False
        if gpu is None or gpu.unhealthy:
            return True
        return any(each.describes(gpu.uuid, instance) for instance in gpu.instances)

    return tuple(filter(true, made))


def refusal(assignment: Assignment, host: Host) -> str:
    """Return why this node can never have the assignment's instance, "" if it can."""
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
    """Return why *gpu* takes no new instances now, "" if it does."""
    if gpu.unhealthy:
        return gpu.unhealthy
    if not gpu.mig_enabled:
        return "MIG mode is off"
    if gpu.layout is not Layout.DYNAMIC:
        return "the GPU's layout is static"
    return ""
