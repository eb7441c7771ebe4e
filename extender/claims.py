"""Claims: places in a plan that a pod waits for while those who have them leave.

A claim is a reservation whose owner is the very pod. It lies over the places of its victims, in the
same plan, so that whoever leads next finds it there, with all that it is about; nobody else gets
slices it covers, whoever leaves first. Once nothing else is left there it becomes the pod's place.
Agents take no notice of it, as of no reservation.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import cast

from extender.policy.bounds import Terms
from extender.snapshot import NodeView, Taken, taken_by
from nodeagent.api import keys, rfc3339
from nodeagent.api.gpunode import Assignment, OwnerRef, PodRef


def claimant(pod: PodRef) -> OwnerRef:
    """Return whose a pod's claims are: its own, told by its UID."""
    return OwnerRef(keys.PREEMPTOR, pod.namespace, pod.uid)


def is_claim(entry: Assignment) -> bool:
    """Tell whether an entry of a plan is a claim."""
    return entry.pod is None and entry.owner is not None and entry.owner.kind == keys.PREEMPTOR


def is_move(entry: Assignment) -> bool:
    """Tell whether an entry of a plan is held, or claimed, for an order of moves."""
    return entry.pod is None and entry.id.startswith(keys.MOVE_PREFIX)


def is_ahead(entry: Assignment) -> bool:
    """Tell whether an entry keeps a place for a later move, which an earlier one is to vacate.

    It is a claim of nobody's: no pod has it; the move's own reservation takes its place.
    """
    return is_move(entry) and entry.id.endswith(keys.AHEAD_SUFFIX)


def claims(view: NodeView) -> tuple[Assignment, ...]:
    """Return the claims in force on a node."""
    known = view.memo.get("claims")
    if known is None:
        known = view.memo["claims"] = tuple(filter(is_claim, view.in_force))
    return cast(tuple[Assignment, ...], known)


def claims_of(view: NodeView, uid: str) -> tuple[Assignment, ...]:
    """Return the claims in force of a pod on a node."""
    return tuple(each for each in claims(view) if each.owner is not None and each.owner.name == uid)


def claimed(view: NodeView, entry: Assignment) -> bool:
    """Tell whether somebody waits for slices of an entry of the plan."""
    return any(_overlap(taken_by(each), taken_by(entry)) for each in claims(view))


def in_the_way(view: NodeView, of: Collection[Assignment], terms: Terms | None) -> frozenset[str]:
    """Return the UIDs of the pods that must go before these claims are places.

    Those on their slices; those on their GPUs with whom, by the *terms*, none is shared; and those
    whose GPU instances are of a profile of which there may be no more.
    """
    found = set()
    for entry in view.node.spec.assignments:
        claims = [each for each in of if each.gpu == entry.gpu]
        if entry.pod is None or not claims:
            continue
        apart = terms is not None and terms.isolating and terms.apart(entry.pod.namespace)
        if apart or any(_overlap(taken_by(entry), taken_by(each)) for each in claims):
            found.add(entry.pod.uid)
    return frozenset(found.union(_too_many(view, of, found)))


def _too_many(view: NodeView, of: Collection[Assignment], going: Collection[str]) -> Iterator[str]:
    """Yield who else goes where a profile is limited, as ``+me`` is: who came last."""
    geometries = view.node.status.geometries
    for gpu in view.usable:
        for profile_id in geometries[gpu.geometry].limited:
            claims = [e for e in of if (e.gpu, e.profile_id) == (gpu.uuid, profile_id)]
            pods = [
                (rfc3339.moment(each.since), each.pod.uid)
                for each in view.node.spec.assignments
                if (each.gpu, each.profile_id) == (gpu.uuid, profile_id)
                and each.pod is not None
                and each.pod.uid not in going
            ]
            most = geometries[gpu.geometry].by_id[profile_id].max_instances
            over = len(claims) + len(pods) - most if claims else 0
            yield from (uid for _, uid in sorted(pods, reverse=True)[: max(0, over)])


def vacated(view: NodeView, of: Collection[Assignment]) -> bool:
    """Tell whether nothing is left, in the plan or on the GPUs, where these claims are."""
    there = {taken_by(each) for each in view.in_force if each not in of}
    there |= {each.taken for each in view.releasing}
    there |= {
        Taken(gpu.uuid, each.profile_id, each.placement)
        for gpu in view.node.status.gpus
        for each in gpu.instances
    }
    return not any(_overlap(taken_by(claim), each) for claim in of for each in there)


def _overlap(one: Taken, other: Taken) -> bool:
    return one.gpu == other.gpu and bool(one.placement.mask & other.placement.mask)
