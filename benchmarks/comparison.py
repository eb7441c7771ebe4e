"""What two extenders know of one cluster, compared field by field."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import msgspec

from benchmarks.populated import NAMESPACE
from extender.ledger import Ledger
from extender.request import Request
from extender.service import Knowledge
from extender.snapshot import NodeView
from extender.verbs import bind as decide
from extender.verbs.record import adoptable
from nodeagent.api.gpunode import PodRef

Field = Callable[[Knowledge], Mapping[str, object]]
"""A field of what is known: its values by what they are about."""


class Difference(msgspec.Struct, frozen=True):
    """A value that differs; None where one of the two has none."""

    field: str
    about: str
    former: object
    successor: object


class Comparison(msgspec.Struct, frozen=True):
    """How many values of each field were compared, and which differ."""

    compared: Mapping[str, int]
    differing: tuple[Difference, ...]


def compare(former: Knowledge, successor: Knowledge) -> Comparison:
    """Compare what is to be the same after a restart: all that the API server tells.

    What a process forgets by design is not looked at: whom it refused, who is pending, what was
    asked, what has failed of late.
    """
    compared: dict[str, int] = {}
    differing: list[Difference] = []
    for name, field in FIELDS.items():
        ours, theirs = field(former), field(successor)
        about = sorted({*ours, *theirs})
        compared[name] = len(about)
        differing += (
            Difference(name, key, ours.get(key), theirs.get(key))
            for key in about
            if key not in ours or key not in theirs or ours[key] != theirs[key]
        )
    return Comparison(compared, tuple(differing))


def _of_views(value: Callable[[NodeView], object]) -> Field:
    return lambda knowledge: {name: value(view) for name, view in knowledge.views.items()}


def _assignments(knowledge: Knowledge) -> Mapping[str, object]:
    return {f"{view.name}/{entry.id}": entry for view, entry in knowledge.entries()}


def _reservations(knowledge: Knowledge) -> Mapping[str, object]:
    return {
        f"{view.name}/{entry.id}": entry.owner
        for view, entry in knowledge.entries()
        if entry.pod is None or not _bound(knowledge, entry.pod.uid)
    }


def _holds(knowledge: Knowledge) -> Mapping[str, object]:
    holds = knowledge.holds
    owners = {entry.owner for _, entry in knowledge.entries() if entry.owner is not None}
    return {
        f"{owner.kind} {owner.namespace}/{owner.name}": (
            holds.nodes_of(owner),
            holds.entries_of(owner),
        )
        for owner in owners
    }


def _caps(knowledge: Knowledge) -> Mapping[str, object]:
    left = knowledge.tenancy.left(knowledge.ledger)
    return {
        tenant: (left.slices.get(tenant), profiles, knowledge.tenancy.used(tenant, Ledger()))
        for tenant, profiles in left.counts.items()
    }


def _bounds(knowledge: Knowledge) -> Mapping[str, object]:
    """What the rules leave a pod of each tenant, and of none, for each thing that is offered."""
    offered = {resource for view in knowledge.views.values() for resource in view.offered}
    found: dict[str, object] = {}
    for resource in offered:
        for namespace in ("", NAMESPACE):
            asked = Request(PodRef(namespace, "any", "any"), (resource,))
            bounds = knowledge.bounded(asked).bounds
            found[f"{namespace}/{resource}"] = bounds and (
                bounds.terms.name,
                bounds.terms.kept,
                bounds.slices,
                bounds.counts,
                bounds.spare,
            )
    return found


def _bound(knowledge: Knowledge, uid: str) -> bool:
    return uid in knowledge.pods and bool(knowledge.pods[uid].node)


def _occupancies(knowledge: Knowledge) -> Mapping[str, object]:
    return {
        bin.uuid: (bin.occupancy, bin.serves)
        for view in knowledge.views.values()
        for bin in view.bins()
    }


def _places(knowledge: Knowledge) -> Mapping[str, object]:
    assigned = knowledge.assigned
    return {uid: (assigned.nodes_of(uid), knowledge.place_of(uid)) for uid in assigned}


def decisions(knowledge: Knowledge) -> Mapping[str, str]:
    """Return by the name of each placed pod what its Binding said, but for the policy's version.

    Nobody needs to know that once the pod is bound, and so no extender keeps it.
    """
    return {name: text for view in knowledge.views.values() for name, text in _decisions(view)}


def _decisions(view: NodeView) -> Iterator[tuple[str, str]]:
    for uid in view.pods:
        entries = view.assignments_of(uid)
        for name in {entry.pod.name for entry in entries if entry.pod}:
            yield name, decide.annotation(view, entries, policy_version="")


FIELDS: Mapping[str, Field] = {
    "nodes": lambda knowledge: knowledge.nodes,
    "versions": _of_views(lambda view: view.node.metadata),
    "assignments": _assignments,
    "places not bound yet": _reservations,
    "inventories": _of_views(lambda view: view.node.status),
    "occupancies": _occupancies,
    "taken": _of_views(lambda view: (view.taken, view.fullness)),
    "releasing": _of_views(lambda view: view.releasing),
    "suitability": _of_views(
        lambda view: (view.stale, view.takes_new, view.offered, view.obtainable, view.usable)
    ),
    "labels": _of_views(lambda view: view.labels),
    "held": _of_views(lambda view: (view.held, view.lapsed)),
    "holds": _holds,
    "caps": _caps,
    "bounds": _bounds,
    "adoptable": _of_views(adoptable),
    "pods": lambda knowledge: knowledge.pods,
    "places of pods": _places,
    "decisions": decisions,
    "gangs": lambda knowledge: {
        "/".join(of): members for of, members in knowledge.enlisted.members.items()
    },
    "assumptions": lambda knowledge: knowledge.ledger.assumed,
    "presumptions": lambda knowledge: knowledge.ledger.presumed,
    "planned places": lambda knowledge: knowledge.ledger.planned,
}
