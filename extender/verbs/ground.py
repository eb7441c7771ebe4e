"""Who is where on the GPUs of a node as victims are looked for: who may go, and what stays."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import msgspec

from extender.claims import claims
from extender.ledger import Ledger
from extender.packing.choose import Bin, enough
from extender.policy.bounds import Bounds
from extender.policy.rules import Apart
from extender.request import Request, Wanted
from extender.snapshot import NodeView, Taken, taken_by
from extender.verbs.permitted import shut
from extender.verbs.preempt import without


class Seat(NamedTuple):
    """What a pod that may go has on a GPU."""

    uid: str
    taken: Taken


class Ground:
    """The GPUs (``bins``) on which a request may lie once some of the *units* (UIDs) are gone.

    By GPU, ``seats`` are what these have, and ``fixed`` is what stays. ``freed`` are the slices
    that come free without anybody's going, if that is *waited* for; ``apart`` are those units by
    whom a GPU is shut to the request even beside its own slices.
    """

    def __init__(
        self,
        view: NodeView,
        ledger: Ledger,
        request: Request,
        units: Collection[str],
        *,
        waits: bool,
    ) -> None:
        self.seats: dict[str, list[Seat]] = {}
        self.fixed: dict[str, list[Taken]] = {}
        stays, freed = _staying(view), set[Taken]()
        holders = {taken_by(e): uid for uid in view.pods for e in view.assignments_of(uid)}
        own = view.kept_for(request.owner)
        for taken in view.taken:
            uid = holders.get(taken, "")
            if taken in own:
                continue
            if taken in stays or (uid and uid not in units):
                self.fixed.setdefault(taken.gpu, []).append(taken)
            elif uid:
                self.seats.setdefault(taken.gpu, []).append(Seat(uid, taken))
            elif waits:
                freed.add(taken)
            else:
                self.fixed.setdefault(taken.gpu, []).append(taken)
        for taken in ledger.assumed_on(view.name, besides=request.pod.uid):
            self.fixed.setdefault(taken.gpu, []).append(taken)
        self.freed = frozenset(freed)
        closed, self.apart = self._kept_apart(view, request.bounds)
        self.bins = [bin for bin in view.bins() if bin.uuid not in closed]

    def may_do(self, wanted: Wanted) -> bool:
        """Tell, by counting alone, whether room may be made here: if not, nobody's going makes it.

        Where nobody goes, and nothing comes free, there is none to be made.
        """
        if not (self.seats or self.freed):
            return False
        return enough([self._without_who_goes(bin) for bin in self.bins], wanted)

    def _without_who_goes(self, bin: Bin) -> Bin:
        stays = {(each.profile_id, each.placement) for each in self.fixed.get(bin.uuid, ())}
        return msgspec.structs.replace(bin, occupancy=bin.tables.holding(stays))

    def _kept_apart(
        self, view: NodeView, bounds: Bounds | None
    ) -> tuple[frozenset[str], frozenset[str]]:
        """Return the GPUs that stay another tenant's, and the pods that others' GPUs are shut by.

        The pods are named by UID; whoever is not to share a GPU with them has it without them.
        """
        if bounds is None or not bounds.terms.isolating:
            return frozenset(), frozenset()
        seats = [seat for here in self.seats.values() for seat in here]
        leaving = self.freed.union(seat.taken for seat in seats)
        whose = {
            uid: e.pod.namespace for uid in view.pods for e in view.assignments_of(uid) if e.pod
        }
        apart = (
            seat.uid for seat in seats if bounds.terms.apart(whose[seat.uid]) is not Apart.NOTHING
        )
        return shut(without(view, leaving), bounds), frozenset(apart)


def _staying(view: NodeView) -> frozenset[Taken]:
    """Return what does not go with any pod: reserved, waited for, foreign, or not as planned."""
    ids = {each.id for each in view.node.spec.assignments}
    planned = {taken_by(each) for each in view.node.spec.assignments if each.pod is not None}
    staying = {taken_by(each) for each in (*view.reservations, *claims(view))} - {
        taken_by(each) for each in view.reservations if each.id in view.lapsed
    }
    for gpu in view.node.status.gpus:
        for each in gpu.instances:
            taken = Taken(gpu.uuid, each.profile_id, each.placement)
            ours = each.assignment and each.assignment not in ids and each.holder is None
            if taken not in planned and (not ours or each.standing):
                staying.add(taken)
    return frozenset(staying)
