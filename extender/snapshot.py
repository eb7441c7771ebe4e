"""What decisions look at: each node's GPUs with everything that is taken on them.

Immutable: a change makes a new view of that node and leaves the others as they are. A slice is
taken if an instance sits there, if the plan promises it, or if a promise was taken back and the
agent has not yet answered for it ("releasing"). An entry of the plan without a pod is a
reservation: it keeps its place for its owner's next pod, until its time is over ("lapsed").
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Set
from functools import lru_cache

import msgspec
from propcache.api import cached_property

from extender.packing.choose import Bin
from extender.packing.tables import Tables, tables
from extender.policy import Policy, PolicyName
from extender.policy.bounds import UNKNOWN
from nodeagent.api import keys, resources
from nodeagent.api.geometry import Geometry, Placement
from nodeagent.api.gpunode import (
    Assignment,
    Condition,
    Gpu,
    GpuNode,
    Layout,
    Mode,
    OwnerRef,
    Plan,
    PodRef,
)
from nodeagent.api.rivals import Rival


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
    """A GPU instance that a pod had for ``resource`` before Tangram came."""

    gpu: str
    profile_id: int
    placement: Placement
    resource: str
    pod: PodRef


class Standing(msgspec.Struct, frozen=True):
    """A device for ``resource`` that nobody has, and that stays; its ``keepers`` come first.

    ``index`` is its GPU's among all of the node.
    """

    index: int
    taken: Taken
    resource: str
    keepers: tuple[OwnerRef, ...]


class NodeView(msgspec.Struct, frozen=True, dict=True):
    """One node as decisions see it. ``stale``: its agent has not renewed its Lease in time.

    ``agent`` names the process that renewed it last, "" where that is not known.
    ``failing``: it could not realize one assignment after the other. ``rival``: who else makes and
    destroys GPU instances there.
    ``unanswered`` is a generation of the plan that came about unseen: what was taken back on the
    way there may still be on the GPUs, and nobody knows what it was, before the agent has seen it.
    ``lapsed`` are the ids of the reservations whose time is over: their places are free, and they
    leave the plan with its next write, or when they are swept up. ``labels`` are the Node's, as far
    as rules look at them.
    """

    node: GpuNode
    policy: Policy | PolicyName
    releasing: tuple[Releasing, ...] = ()
    stale: bool = True
    agent: str = ""
    cordoned: bool = False
    failing: bool = False
    rival: Rival | None = None
    unanswered: int = 0
    lapsed: frozenset[str] = frozenset()
    labels: Mapping[str, str] = {}

    @property
    def name(self) -> str:
        """The Node's name."""
        return self.node.name

    @property
    def reported(self) -> bool:
        """Whether an agent has ever reported an inventory."""
        return bool(self.node.status.agent_epoch)

    @property
    def takes_new(self) -> bool:
        """Whether anything new may be placed on the node at all."""
        refuses = self.stale or self.cordoned or self.failing or self.unsettled
        return self.reported and not refuses and self.rival is None

    @property
    def unsettled(self) -> bool:
        """Whether the agent has yet to answer for a plan that came about unseen."""
        return self.node.status.observed_generation < self.unanswered

    @cached_property
    def usable(self) -> tuple[Gpu, ...]:
        """The GPUs on which instances may be placed, in the agent's order."""
        return tuple(
            gpu
            for gpu in self.node.status.gpus
            if gpu.mig_enabled
            and not gpu.unhealthy
            and gpu.layout is Layout.DYNAMIC
            and gpu.geometry in self._geometries
        )

    @cached_property
    def _geometries(self) -> set[str]:
        return {key for key, each in self.node.status.geometries.items() if each.sound}

    @property
    def taken(self) -> frozenset[Taken]:
        """Everything that holds slices on this node.

        Worked out when asked for: kept, it would be a sixth of the memory that a VM costs.
        """
        return frozenset(self._taken())

    def _taken(self, among: Set[str] | None = None) -> set[Taken]:
        """Return what holds slices, on all GPUs or those *among* the UUIDs."""
        found = self._there(among)
        found.update(taken_by(a) for a in self.in_force if among is None or a.gpu in among)
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

    def bins(
        self, promised: Iterable[Taken] = (), *, leaving: Collection[Taken] = ()
    ) -> tuple[Bin, ...]:
        """Return the usable GPUs as bins, with *promised* taken besides and *leaving* free."""
        changed = {each.gpu for each in (*promised, *leaving)}
        if not changed:
            return self._bins
        taken = self._taken(changed)
        taken -= frozenset(leaving)
        taken |= frozenset(promised)
        return tuple(
            self._bin(gpu, (t for t in taken if t.gpu == gpu.uuid)) if gpu.uuid in changed else bin
            for gpu, bin in zip(self.usable, self._bins, strict=True)
        )

    def replanned(self, assignments: tuple[Assignment, ...]) -> NodeView:
        """Return the node with another plan, and what was worked out of it as far as that holds.

        GPUs of which the plan says the same as before are as they were.
        """
        node = msgspec.structs.replace(self.node, spec=Plan(assignments))
        now = msgspec.structs.replace(self, node=node)
        here, there = self.node.spec.assignments, assignments
        before, after = set(map(id, here)), set(map(id, there))  # what stays is the very same
        changed = {each.gpu for each in here if id(each) not in after}
        changed.update(each.gpu for each in there if id(each) not in before)
        bins = self._bins
        now.__dict__.update(
            (name, self.__dict__[name]) for name in _WHATEVER_IS_PLANNED if name in self.__dict__
        )
        taken = now._taken(changed)
        now.__dict__["_bins"] = tuple(
            now._bin(gpu, (t for t in taken if t.gpu == gpu.uuid)) if gpu.uuid in changed else bin
            for gpu, bin in zip(now.usable, bins, strict=True)
        )
        return now

    @cached_property
    def _bins(self) -> tuple[Bin, ...]:
        held: dict[str, list[Taken]] = {}
        for each in self._taken():
            held.setdefault(each.gpu, []).append(each)
        return tuple(self._bin(gpu, held.get(gpu.uuid, ())) for gpu in self.usable)

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
        """Every device of which the agent tells that a pod has it."""
        return tuple(
            Held(gpu.uuid, each.profile_id, each.placement, each.resource, each.holder)
            for gpu in self.node.status.gpus
            for each in gpu.instances
            if each.holder is not None
        )

    def _bin(self, gpu: Gpu, held: Iterable[Taken]) -> Bin:
        scores = self._tables[gpu.geometry]
        state = scores.holding({(each.profile_id, each.placement) for each in held})
        return Bin(gpu.uuid, scores, state, self._serves_now(gpu))

    @cached_property
    def _tables(self) -> Mapping[str, Tables]:
        geometries = self.node.status.geometries
        return {key: tables(geometries[key], self.policy) for key in self._geometries}

    def _serves(self, gpu: Gpu) -> Mapping[str, int]:
        """Map what the GPU can serve, of all that is handed out here, to the profile behind it."""
        kind = (gpu.geometry, gpu.vgpu_types)
        known = self._served.get(kind)
        if known is not None:
            return known
        status = self.node.status
        types = status.vgpu_types.get(gpu.vgpu_types, ())
        served = resources.served(status.mode, status.geometries[gpu.geometry], types)
        if status.resources:
            served = {name: id for name, id in served.items() if name in status.resources}
        self._served[kind] = served
        return served

    @cached_property
    def _served(self) -> dict[tuple[str, str], Mapping[str, int]]:
        """What each kind of GPU serves: most nodes have eight of a kind."""
        return {}

    def _serves_now(self, gpu: Gpu) -> Mapping[str, int]:
        """Leave out what a rival plugin serves, and what somebody else's GPU instance would take.

        The driver chooses which free GPU instance of its profile backs a new vGPU.
        """
        served, rivals = self._serves(gpu), self.node.status.rivals
        vacant = {each.profile_id for each in gpu.instances if each.vacant}
        if not vacant and not rivals:
            return served
        return {
            name: profile
            for name, profile in served.items()
            if profile not in vacant and name not in rivals
        }

    @cached_property
    def fullness(self) -> int:
        """How many memory slices of the node are taken."""
        return sum(bin.occupancy.mask.bit_count() for bin in self.bins())

    @cached_property
    def offered(self) -> frozenset[str]:
        """The resources any usable GPU of the node serves, room or no room."""
        return _names(map(self._serves, self.usable))

    def profile_of(self, resource: str) -> str:
        """Return the name of the profile that serves *resource* here, "" if none does."""
        for gpu in self.usable:
            profile_id = self._serves(gpu).get(resource)
            if profile_id is not None:
                return self.node.status.geometries[gpu.geometry].by_id[profile_id].name
        return ""

    @cached_property
    def kind(self) -> object:
        """What nodes that serve the same things have in common."""
        status = self.node.status
        gpus = frozenset((gpu.geometry, gpu.vgpu_types) for gpu in self.usable)
        return status.mode, status.resources, gpus

    @property
    def sizes(self) -> frozenset[tuple[str, str, int]]:
        """What each resource may come to here: the profile, and its memory slices."""
        found = set()
        for gpu in self.usable:
            by_id = self.node.status.geometries[gpu.geometry].by_id
            for resource, profile_id in self._serves(gpu).items():
                found.add((resource, by_id[profile_id].name, by_id[profile_id].size))
        return frozenset(found)

    def profile_named(self, gpu: str, profile_id: int) -> str:
        """Return what the GPU's driver calls a profile today, "" if the GPU is gone."""
        geometry = self._geometry_of.get(gpu)
        profile = None if geometry is None else geometry.by_id.get(profile_id)
        return "" if profile is None else profile.name

    @cached_property
    def _geometry_of(self) -> Mapping[str, Geometry]:
        status = self.node.status
        return {
            gpu.uuid: status.geometries[gpu.geometry]
            for gpu in status.gpus
            if gpu.geometry in status.geometries
        }

    @cached_property
    def obtainable(self) -> frozenset[str]:
        """The resources of which nothing but a lack of room keeps a pod."""
        return _names(map(self._serves_now, self.usable))

    @cached_property
    def memo(self) -> dict[object, object]:
        """What decisions have worked out about this view; gone with it."""
        return {}

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

    @property
    def succeeded(self) -> bool:
        """Whether the agent is another process than the one that told the inventory.

        What that one had realized may be gone: the node may have rebooted in between, and nobody
        would answer for it before the new one has told its own.
        """
        return bool(self.agent) and self.agent != self.node.status.agent_epoch

    @property
    def unsure(self) -> bool:
        """Whether nobody knows what is on the GPUs now: no driver answers the agent that lives."""
        return self.succeeded or _driver_unavailable(self.node.status.conditions)

    def realized(self, ids: Iterable[str]) -> bool:
        """Tell whether the agent that lives reports every one of these assignments realized.

        While its driver does not answer it says what it knew before: what has become of that since,
        by a reset, say, nobody knows.
        """
        told = () if self.unsure else self.node.status.realized
        return set(ids) <= {each.id for each in told}

    def failure(self, ids: Iterable[str]) -> str:
        """Return why the agent cannot realize one of these assignments, "" if it can."""
        wanted = set(ids)
        return next((f.reason for f in self.node.status.failed if f.id in wanted), "")

    def failed_on(self, ids: Iterable[str]) -> Mapping[str, Taken]:
        """Return each usable GPU that cannot realize one of these assignments, taken as a whole."""
        failed = set(ids) & {each.id for each in self.node.status.failed}
        profiles = {a.gpu: a.profile_id for a in self.node.spec.assignments if a.id in failed}
        geometries = self.node.status.geometries
        return {
            gpu.uuid: Taken(
                gpu.uuid,
                profiles[gpu.uuid],
                Placement(0, geometries[gpu.geometry].memory_slices),
            )
            for gpu in self.usable
            if gpu.uuid in profiles
        }


_WHATEVER_IS_PLANNED = (
    "usable",
    "_geometries",
    "_geometry_of",
    "_tables",
    "_served",
    "offered",
    "obtainable",
    "kind",
)
"""What of a view rests on the node's inventory alone."""


def _names(served: Iterable[Mapping[str, int]]) -> frozenset[str]:
    """Return all that is served; GPUs of a kind share one mapping."""
    return _the_one(frozenset().union(*{id(each): each for each in served}.values()))


@lru_cache(maxsize=1_024)  # nodes are of few kinds, and many of each
def _the_one(names: frozenset[str]) -> frozenset[str]:
    """Return the first of all sets equal to this one."""
    return names


def taken_by(assignment: Assignment) -> Taken:
    """Return the slices an assignment promises."""
    return Taken(assignment.gpu, assignment.profile_id, assignment.placement)


def _driver_unavailable(conditions: Iterable[Condition]) -> bool:
    return any(each.reason == keys.DRIVER_UNAVAILABLE for each in conditions)
