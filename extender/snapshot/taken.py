"""What is taken on the GPUs of a node, and by whom.

A slice is taken if an instance sits there, if the plan promises it, or if a promise was taken back
and the agent has not yet answered for it ("releasing"). An entry of the plan without a pod is a
reservation: it keeps its place for its owner's next pod, until its time is over ("lapsed").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

import msgspec
from propcache.api import cached_property

from extender.policy.bounds import UNKNOWN
from extender.snapshot.offer import NodeOffer
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Assignment, Mode, OwnerRef, PodRef


class Taken(msgspec.Struct, frozen=True, gc=False):
    """Slices of one GPU that something holds."""

    gpu: str
    profile_id: int
    placement: Placement


class Releasing(msgspec.Struct, frozen=True):
    """Slices whose promise was taken back in plan *generation*: free once the agent has seen it.

    ``namespace`` is that of whom they were promised to.
    """

    taken: Taken
    generation: int
    namespace: str = UNKNOWN


class Held(msgspec.Struct, frozen=True):
    """A GPU instance that a pod has for ``resource``, and no plan says so.

    It had that before Tangram came, or its entry is lost: then ``assignment`` was that one's id.
    """

    gpu: str
    profile_id: int
    placement: Placement
    resource: str
    pod: PodRef
    assignment: str = ""


class Standing(msgspec.Struct, frozen=True):
    """A device for ``resource`` that nobody has, and that stays; its ``keepers`` come first.

    ``index`` is its GPU's among all of the node.
    """

    index: int
    taken: Taken
    resource: str
    keepers: tuple[OwnerRef, ...]


def taken_by(assignment: Assignment) -> Taken:
    """Return the slices an assignment promises."""
    return Taken(assignment.gpu, assignment.profile_id, assignment.placement)


class NodeTaken(NodeOffer, frozen=True, dict=True):
    """What is taken of what one node offers.

    ``lapsed`` are the ids of the reservations whose time is over: their places are free, and they
    leave the plan with its next write, or when they are swept up.
    """

    releasing: tuple[Releasing, ...] = ()
    lapsed: frozenset[str] = frozenset()

    @property
    def taken(self) -> frozenset[Taken]:
        """Everything that holds slices on this node.

        Worked out when asked for: kept, it would be a sixth of the memory that a VM costs.
        """
        return frozenset(self._taken())

    def _taken(self, among: Set[str] | None = None) -> set[Taken]:
        """Return what holds slices, on all GPUs or those *among* the UUIDs."""
        found = self._there(among)
        plan, lapsed = self.node.spec.assignments, self.lapsed
        here = plan if among is None else [a for a in plan if a.gpu in among]
        found.update([taken_by(a) for a in here if a.id not in lapsed])
        return found

    @property
    def in_force(self) -> Iterable[Assignment]:
        """The plan's entries that count: all but the reservations whose time is over."""
        return (each for each in self.node.spec.assignments if each.id not in self.lapsed)

    def _there(self, among: Set[str] | None = None) -> set[Taken]:
        """Return what is on the GPUs, or may be for all we know, whatever the plan says."""
        found = {
            Taken(gpu.uuid, each.profile_id, each.placement)
            for gpu in self.node.status.gpus
            if among is None or gpu.uuid in among
            for each in gpu.instances
        }
        left = (each.taken for each in self.releasing)
        found.update(each for each in left if among is None or each.gpu in among)
        return found

    @cached_property
    def reservations(self) -> tuple[Assignment, ...]:
        """The plan's entries without a pod."""
        return tuple(each for each in self.node.spec.assignments if each.pod is None)

    @cached_property
    def held(self) -> Mapping[OwnerRef, tuple[Assignment, ...]]:
        """The reservations in force, by the owner for whose next pod they are."""
        found: dict[OwnerRef, tuple[Assignment, ...]] = {}
        for each in self.in_force:
            if each.owner is not None and each.pod is None:
                found[each.owner] = (*found.get(each.owner, ()), each)
        return found

    def held_for(self, owner: OwnerRef | None) -> tuple[Assignment, ...]:
        """Return the reservations in force for an owner."""
        return self.held.get(owner, ()) if owner is not None and self.held else ()

    def kept_for(self, owner: OwnerRef | None) -> tuple[Taken, ...]:
        """Return the slices that nothing takes but a reservation for this owner."""
        held = self.held_for(owner)
        there = self._there() if held else ()
        return tuple(each for each in map(taken_by, held) if each not in there)

    @cached_property
    def standing(self) -> tuple[Standing, ...]:
        """The devices that stand there for whoever comes, whatever the plan says of them.

        Only with Harvester's device plugin there are any. Those that nobody keeps come first.
        """
        status = self.node.status
        if status.mode is not Mode.HARVESTER:
            return ()
        found = [
            Standing(
                index, Taken(gpu.uuid, each.profile_id, each.placement), each.resource, each.keepers
            )
            for index, gpu in enumerate(status.gpus)
            for each in gpu.instances
            if each.standing and (not status.resources or each.resource in status.resources)
        ]
        return tuple(sorted(found, key=lambda each: bool(each.keepers)))

    @cached_property
    def keepers(self) -> frozenset[OwnerRef]:
        """The owners who have kept a device here."""
        return frozenset(owner for each in self.standing for owner in each.keepers)

    def standing_for(
        self, owner: OwnerRef | None, promised: Iterable[Taken] = ()
    ) -> tuple[Standing, ...]:
        """Return those that the plan, or a promise, gives to nobody but a pod of *owner*."""
        if not self.standing:
            return ()
        theirs = {
            taken_by(each)
            for each in self.in_force
            if each.pod is not None or owner is None or each.owner != owner
        }
        return tuple(each for each in self.standing if each.taken not in theirs.union(promised))

    @cached_property
    def held_devices(self) -> tuple[Held, ...]:
        """Every device of which the agent tells that a pod has it.

        With Harvester another pod may have it than the one for whose assignment it was made.
        """
        ours = self.node.status.mode is not Mode.HARVESTER
        return tuple(
            Held(
                gpu.uuid,
                each.profile_id,
                each.placement,
                each.resource,
                each.holder,
                each.assignment if ours else "",
            )
            for gpu in self.node.status.gpus
            for each in gpu.instances
            if each.holder is not None
        )

    def assignments_of(self, pod_uid: str) -> tuple[Assignment, ...]:
        """Return the plan's entries for a pod."""
        return tuple(
            each
            for each in self.node.spec.assignments
            if each.pod is not None and each.pod.uid == pod_uid
        )

    @property
    def pods(self) -> Iterable[str]:
        """UIDs of the pods the plan has entries for, each once."""
        entries = self.node.spec.assignments
        return dict.fromkeys(each.pod.uid for each in entries if each.pod is not None)
