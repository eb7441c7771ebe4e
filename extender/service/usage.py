"""What namespaces have: by the plans, kept up as views change, and by promises beyond them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping

from extender.claims import claimant
from extender.ledger import Ledger
from extender.occupants import charges, namespace_of
from extender.request import Request
from extender.service.assigned import Assigned
from extender.service.holds import Holds
from extender.snapshot import NodeView
from nodeagent.api.gpunode import Assignment


class Usage:
    """What is planned in the *views*; *assigned* and *holds* tell where to look for it."""

    def __init__(self, views: Mapping[str, NodeView], assigned: Assigned, holds: Holds) -> None:
        self._views = views
        self._assigned = assigned
        self._holds = holds
        self._owned: Counter[tuple[str, str]] = Counter()
        self._slices: Counter[str] = Counter()

    def changed(self, before: NodeView | None, now: NodeView | None) -> None:
        """Take in that a node's view is another."""
        for view, sign in ((before, -1), (now, 1)):
            for (namespace, profile), (count, slices) in charges(view).items() if view else ():
                self._owned[namespace, profile] += sign * count
                self._slices[namespace] += sign * slices

    def planned(self, namespace: str) -> int:
        """Return the memory slices that a namespace has by the plans."""
        return self._slices[namespace]

    def of(
        self,
        namespaces: Collection[str],
        capped: Iterable[str],
        ledger: Ledger,
        request: Request | None = None,
        leaving: Collection[str] = (),
    ) -> tuple[int, Counter[str]]:
        """Return the memory slices some *namespaces* have, and their GPU instances by profile.

        Of the profiles that are *capped*. All that is planned, held or promised for their pods, but
        for what the *request*'s own pod and owner have, and the pods *leaving*.
        """
        slices = sum(self._slices[each] for each in namespaces)
        profiles = Counter(
            {profile: sum(self._owned[each, profile] for each in namespaces) for profile in capped}
        )
        gone = {*leaving, *(() if request is None else (request.pod.uid,))}
        for view, entry in self._own(request, gone):
            if namespace_of(entry) in namespaces:
                slices -= entry.size
                profiles[view.profile_named(entry.gpu, entry.profile_id)] -= 1
        for uid, promise in ledger.certain:
            planned = promise.node in self._assigned.nodes_of(uid)
            if promise.namespace in namespaces and uid not in gone and not planned:
                there = self._views.get(promise.node)
                for taken in promise.taken:
                    slices += taken.placement.size
                    if there is not None:
                        profiles[there.profile_named(taken.gpu, taken.profile_id)] += 1
        return slices, profiles

    def _own(
        self, request: Request | None, uids: Collection[str]
    ) -> Iterator[tuple[NodeView, Assignment]]:
        """Yield the plan's entries of some pods, and those held for the request's pod or owner."""
        for uid in uids:
            for node in self._assigned.nodes_of(uid):
                for entry in self._views[node].assignments_of(uid):
                    yield self._views[node], entry
        if request is None:
            return
        for owner in (request.owner, claimant(request.pod)):
            for node in self._holds.nodes_of(owner):
                for entry in self._views[node].held_for(owner):
                    yield self._views[node], entry
