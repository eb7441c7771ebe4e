"""Tying assignments to device slots, so that each pod gets the GPU instance planned for it.

The kubelet knows devices by id and asks for them by count; it never says for which pod. So the node
advertises *slots*, as many for each resource as it could ever hold GPU instances for it, and ties
each assignment that is ready to one::

    tied ──▶ claimed ──▶ spent ──▶ free         a claim has ended; the plan still has the assignment
      │          └──────────────────▶ free      … or no longer has it
      └─────────────────────────────▶ free      it left the plan before it was claimed,
                                                or its GPU instance is gone for now

For each resource the ties of at most one pod are neither claimed nor spent: that pod is the one the
kubelet will ask for next; it stays that when its GPU instance goes under it, for it may be bound,
and when the agent ends then. A pod is tied to all its slots at once.

The ties are told in the order they were made. That order outlives the agent's process, and from it
follows what does not: of the unclaimed ties for a resource only those of the pod tied last can be
waiting for their first claim, for all others had been claimed when it was tied. Who is awaited is
kept, for nothing tells it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from itertools import groupby

import msgspec

from nodeagent.api.gpunode import Assignment, Layout, Realized
from nodeagent.api.keys import RESOURCE_DOMAIN
from nodeagent.driver import Host

Claims = Mapping[str, str]
"""The UID of the pod to which the kubelet has given each slot."""


class Tie(msgspec.Struct, frozen=True):
    """An assignment and its slot; ``claimed`` is whether a pod has, or ever had, the slot."""

    assignment: str
    pod_uid: str
    resource: str
    slot: str
    claimed: bool = False


class Ties(msgspec.Struct, frozen=True):
    """Every tie in the order made; ``last`` is the slot number each resource was served last.

    ``awaited`` is, for each resource, the UID of a pod that has been tied, and whose GPU instance
    went before it came: it may be bound, and on its way to the kubelet.
    """

    ties: tuple[Tie, ...] = ()
    last: Mapping[str, int] = {}
    awaited: Mapping[str, str] = {}

    @property
    def realized(self) -> tuple[Realized, ...]:
        """How the inventory tells them."""
        return tuple(Realized(tie.assignment, tie.slot) for tie in self.ties)

    @property
    def had(self) -> frozenset[str]:
        """The assignments whose slot a pod has, or has had."""
        return frozenset(tie.assignment for tie in self.ties if tie.claimed)

    def claimed_by(self, claims: Claims) -> dict[str, str]:
        """Return the UID of the pod that has the slot of each assignment now."""
        return {tie.assignment: claims[tie.slot] for tie in self.ties if tie.slot in claims}

    def claimed_assignments(self, claims: Claims) -> frozenset[str]:
        """Return the assignments whose slot a pod has now."""
        return frozenset(tie.assignment for tie in self.ties if tie.slot in claims)

    def waiting(self) -> dict[str, tuple[str, ...]]:
        """Return, for each resource, the slots of the pod the kubelet will ask for next."""
        slots: dict[str, tuple[str, ...]] = {}
        for tie in self.ties:
            if not tie.claimed:
                slots[tie.resource] = (*slots.get(tie.resource, ()), tie.slot)
        return slots


def slot_name(resource: str, number: int) -> str:
    """Return a slot's name, unique on its node.

    >>> slot_name("nvidia.com/mig-1g.10gb", 7)
    'mig-1g.10gb-7'
    """
    return f"{resource.removeprefix(RESOURCE_DOMAIN)}-{number}"


def resource_of(slot: str) -> str:
    """Return the resource a slot belongs to."""
    return RESOURCE_DOMAIN + slot.rpartition("-")[0]


def capacity(host: Host) -> dict[str, int]:
    """Return how many GPU instances for each resource the node could ever hold at once."""
    total: dict[str, int] = {}
    for gpu in host.gpus:
        if not gpu.mig_enabled or gpu.layout is Layout.UNMANAGED:
            continue
        for resource, profile_id in gpu.served(host.mode).items():
            profile = gpu.geometry.by_id[profile_id]
            most = min(profile.max_instances, profile.fits_at_once)
            total[resource] = total.get(resource, 0) + most
    return total


def without_instance(ties: Ties, claims: Claims, existing: Set[str]) -> Counter[str]:
    """Count by resource the slots that pods have whose GPU instance is gone.

    Such a pod keeps its slot as long as it runs; another may come to where the instance was.
    *existing* are the assignments for which there is one, planned or not.
    """
    kept = (tie for tie in ties.ties if tie.slot in claims and tie.assignment not in existing)
    return Counter(tie.resource for tie in kept)


def recovered(
    realized: Iterable[Realized],
    plan: Collection[Assignment],
    claims: Claims,
    awaited: Mapping[str, str],
) -> Ties:
    """Rebuild the ties of an earlier agent from what it told and what the kubelet has claimed.

    Whom it *awaited* it has kept.

    Whose a slot was that has left the plan is not told: it is taken for its holder's, but the
    holder may have been given it in place of its own.
    """
    pods = {each.id: each.pod.uid for each in plan if each.pod}
    told = tuple(
        Tie(
            each.id,
            pods.get(each.id) or claims[each.slot],
            resource_of(each.slot),
            each.slot,
        )
        for each in realized
        if _number(each.slot) >= 0 and (each.id in pods or each.slot in claims)
    )
    last = {tie.resource: _number(tie.slot) for tie in told}
    ties = kept(Ties(told, last, awaited), plan, claims)
    newest = {tie.resource: pods.get(tie.assignment) for tie in told} | dict(ties.awaited)
    return Ties(
        tuple(
            tie
            if tie.pod_uid == newest[tie.resource]
            else msgspec.structs.replace(tie, claimed=True)
            for tie in ties.ties
        ),
        last,
        ties.awaited,
    )


def kept(ties: Ties, plan: Collection[Assignment], claims: Claims) -> Ties:
    """Drop the ties of assignments that have left the plan, unless a pod still has the slot.

    Note, too, which pods will not ask (again): those that the plan has no more, and those that have
    been served. A pod may have another slot than its own: it is served when it has as many of the
    resource as the plan has for it, for the kubelet serves one container after the other. And
    another pod may have its slot: one that is gone, of which the kubelet has yet to hear; the slot
    is still its owner's, who will ask for it next.
    """
    owners = {each.id: each.pod.uid for each in plan if each.pod}
    missing = Counter((each.pod.uid, each.resource) for each in plan if each.pod)
    missing.subtract((uid, resource_of(slot)) for slot, uid in claims.items())

    def comes(tie: Tie) -> bool:
        return (
            tie.assignment in owners
            and missing[tie.pod_uid, tie.resource] > 0
            and claims.get(tie.slot) != tie.pod_uid
        )

    return Ties(
        tuple(
            tie if tie.claimed or comes(tie) else msgspec.structs.replace(tie, claimed=True)
            for tie in ties.ties
            if tie.slot in claims or tie.assignment in owners
        ),
        ties.last,
        {resource: uid for resource, uid in ties.awaited.items() if missing[uid, resource] > 0},
    )


def tied(
    ties: Ties,
    plan: Iterable[Assignment],
    claims: Claims,
    *,
    live: Set[str],
    capacity: Mapping[str, int],
    in_vain: Iterable[Assignment] = (),
) -> Ties:
    """Tie those pods whose turn it is; *live* are the assignments whose GPU instance exists.

    Those *in_vain* have lost theirs for good before their pod was served, and those whose tie is
    dropped here have for now. The pod may be on its way to the kubelet, who would give it whatever
    slot waits: until it has come, or left the plan, it is its turn.
    Pods come in the order of ``(since, id)``. A pod that is ready but has to wait for one of its
    resources is not overtaken in any of them.
    """
    made = [tie for tie in ties.ties if tie.slot in claims or tie.claimed or tie.assignment in live]
    last = dict(ties.last)
    gone = {tie.resource: tie.pod_uid for tie in ties.ties if tie not in made}
    awaited = {**ties.awaited, **gone}
    turn = {each.resource: each.pod.uid for each in in_vain if each.pod} | awaited
    turn |= {tie.resource: tie.pod_uid for tie in made if not tie.claimed}
    tied_already = {tie.assignment for tie in made}
    for pod_uid, assignments in _pods(plan):
        missing = [each for each in assignments if each.id not in tied_already]
        if not missing or any(each.id not in live for each in missing):
            continue
        taken = {tie.slot for tie in made} | claims.keys()
        if all(turn.get(each.resource, pod_uid) == pod_uid for each in missing):
            for each, slot in _chosen(missing, taken, last, capacity):
                made.append(Tie(each.id, pod_uid, each.resource, slot))
                last[each.resource] = _number(slot)
        for each in missing:
            turn.setdefault(each.resource, pod_uid)
    return Ties(tuple(made), last, awaited)


def _pods(plan: Iterable[Assignment]) -> Iterator[tuple[str, Sequence[Assignment]]]:
    """Yield each pod's assignments, the pod that has waited longest first."""
    ordered = sorted(((each.pod.uid, each) for each in plan if each.pod), key=lambda pair: pair[0])
    groups = [
        (uid, sorted((each for _, each in group), key=_age))
        for uid, group in groupby(ordered, key=lambda pair: pair[0])
    ]
    yield from sorted(groups, key=lambda group: _age(group[1][0]))


def _age(assignment: Assignment) -> tuple[str, str]:
    return assignment.since, assignment.id


def _chosen(
    assignments: Sequence[Assignment],
    taken: Set[str],
    last: Mapping[str, int],
    capacity: Mapping[str, int],
) -> Sequence[tuple[Assignment, str]]:
    """Choose a free slot for each of the assignments, or none at all.

    Slots go round, so that a pod that comes too late for its slot finds it untied rather than
    another's.
    """
    chosen: dict[str, Assignment] = {}
    for each in assignments:
        count = capacity.get(each.resource, 0)
        after = last.get(each.resource, -1) + 1
        names = (slot_name(each.resource, (after + n) % count) for n in range(count))
        free = next((name for name in names if name not in taken and name not in chosen), None)
        if free is None:
            return ()
        chosen[free] = each
    return [(each, slot) for slot, each in chosen.items()]


def _number(slot: str) -> int:
    """Return a slot's number, -1 if *slot* is none of our names."""
    number = slot.rpartition("-")[2]
    return int(number) if number.isdecimal() else -1
