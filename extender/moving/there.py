"""What is seen of a cluster when the next step of an order is asked for."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Protocol, cast

import msgspec

from extender.claims import vacated
from extender.kubescheduler.eligible import Constraints, Traits, why_not
from extender.ledger import Ledger
from extender.moving.order import Seat
from extender.packing.choose import Placed
from extender.request import Request
from extender.snapshot import NodeView, taken_by
from extender.verbs.planned import cost_at
from nodeagent.api.gpunode import Assignment, OwnerRef, PodRef


class Pod(Protocol):
    """What is known of a pod."""

    @property
    def ref(self) -> PodRef:
        """Which it is."""

    @property
    def asked(self) -> object:
        """What it asks for: a :class:`~extender.request.Request`, if anything of ours."""

    @property
    def node(self) -> str:
        """The node it is bound to, "" for none."""

    @property
    def deleting(self) -> bool:
        """Whether it is being deleted."""

    @property
    def over(self) -> bool:
        """Whether it has ended."""

    @property
    def movable(self) -> bool:
        """Whether it may be moved."""


class There(msgspec.Struct, frozen=True):
    """The cluster as it is seen at a moment: nodes, pods by UID, what is promised.

    ``placed`` has the pods with a place in any plan; ``bounded`` gives a request what the policy's
    rules leave it. ``unready`` has the pods that are bound and not Ready, by UID, with what keeps
    each from that. ``constraints`` keep pods from nodes, by UID, and ``traits`` of nodes keep pods
    from them, by name: of whom they say nothing there is nothing.
    """

    views: Mapping[str, NodeView]
    pods: Mapping[str, Pod]
    placed: Container[str]
    ledger: Ledger
    bounded: Callable[[Request], Request]
    unready: Mapping[str, str] = {}
    constraints: Mapping[str, Constraints] = {}
    traits: Mapping[str, Traits] = {}

    def at(self, seat: Seat) -> Assignment | None:
        """Return the entry with a pod that is planned for a place, None for none."""
        return planned_at(self.views, seat)

    def held(self, node: str, id: str) -> bool:
        """Tell whether a reservation is in force."""
        view = self.views.get(node)
        return view is not None and any(
            each.id == id and each.pod is None for each in view.in_force
        )

    def lives(self, uid: str) -> bool:
        """Tell whether a pod is known, and has not ended."""
        pod = self.pods.get(uid)
        return pod is not None and not pod.over

    def over(self, uid: str) -> bool:
        """Tell whether a pod is known to have ended."""
        pod = self.pods.get(uid)
        return pod is not None and pod.over

    def in_use(self, seat: Seat) -> bool:
        """Tell whether a pod that lives has slices of a place; what it leaves is soon free."""
        view = self.views.get(seat.node)
        for entry in () if view is None else view.node.spec.assignments:
            overlaps = entry.gpu == seat.gpu and entry.placement.mask & seat.taken.placement.mask
            if overlaps and entry.pod is not None and self.lives(entry.pod.uid):
                return True
        return False

    def free(self, seat: Seat, resource: str, *, kept: str = "") -> bool:
        """Tell whether a place could be had for a resource by who comes now.

        *kept* is the id of the claim by which it is kept for whom is asked, if it is.
        """
        view = self.views.get(seat.node)
        if view is None or not view.takes_new:
            return False
        own = tuple(each for each in view.reservations if each.id == kept)
        if own and not vacated(view, own):
            return False
        leaving = frozenset(map(taken_by, own))
        place = Placed(resource, 0, seat.gpu, seat.profile_id, seat.taken.placement)
        bins = view.bins(self.ledger.assumed_on(seat.node), leaving=leaving)
        return cost_at(bins, (place,)) is not None

    def kept_from(self, node: str, uid: str) -> str:
        """Return why kube-scheduler would not let a pod such as this run on a node, "" if it would.

        *uid* is that of one that is bound.
        """
        traits = self.traits.get(node, Traits(node))
        return why_not(self.constraints.get(uid, Constraints()), traits)

    def waits(self, uid: str) -> bool:
        """Tell whether a pod waits for a place, and has none yet."""
        return uid not in self.placed and self._to_be_bound(uid)

    def starts(self, uid: str) -> bool:
        """Tell whether a pod has a place, and has yet to be bound to its node."""
        return uid in self.placed and self._to_be_bound(uid)

    def _to_be_bound(self, uid: str) -> bool:
        pod = self.pods.get(uid)
        return pod is not None and not (pod.node or pod.deleting or pod.over)

    def entries_of(self, owner: OwnerRef) -> Iterator[Assignment]:
        """Yield all that is planned or held for an owner."""
        for view in self.views.values():
            yield from (each for each in view.node.spec.assignments if each.owner == owner)

    def of(self, owner: OwnerRef) -> Iterator[tuple[str, PodRef]]:
        """Yield the pods of an owner that have places, with the nodes."""
        for name, view in self.views.items():
            for pod in _by_owner(view).get(owner, ()):
                yield name, pod


def _by_owner(view: NodeView) -> Mapping[OwnerRef, Sequence[PodRef]]:
    """Return the pods that have places on a node, by their owners."""
    known = view.memo.get("pods by owner")
    if known is None:
        found: dict[OwnerRef, list[PodRef]] = {}
        for each in view.node.spec.assignments:
            if each.pod is not None and each.owner is not None:
                found.setdefault(each.owner, []).append(each.pod)
        known = view.memo["pods by owner"] = found
    return cast(Mapping[OwnerRef, Sequence[PodRef]], known)


def planned_at(views: Mapping[str, NodeView], seat: Seat) -> Assignment | None:
    """Return the entry with a pod that is planned for a place, None for none."""
    view = views.get(seat.node)
    for entry in () if view is None else view.node.spec.assignments:
        if entry.pod is not None and (entry.gpu, entry.profile_id, entry.placement) == (
            seat.gpu,
            seat.profile_id,
            seat.taken.placement,
        ):
            return entry
    return None
