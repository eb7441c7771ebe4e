"""Whether the rules would give the pods that have their place the same place again.

So a VM that restarts is judged for the place that is held for it. What is refused stays where it is
until its pod ends; then its place is not held for it any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from extender.outlook.there import Side, There
from extender.packing.choose import Placed
from extender.policy.bounds import Bounds
from extender.request import Request
from extender.snapshot import NodeView
from extender.verbs.permitted import bounds_among, objection
from nodeagent.api.gpunode import Assignment


class Having(msgspec.Struct, frozen=True):
    """A pod's places on a node, and what it has them for."""

    node: str
    request: Request
    placed: tuple[Placed, ...]


def having(there: There) -> Iterator[Having]:
    """Yield every pod that has a place, once for each node."""
    for name, view in there.views.items():
        by_pod: dict[str, list[Assignment]] = {}
        for entry in view.node.spec.assignments:
            if entry.pod is not None:
                by_pod.setdefault(entry.pod.uid, []).append(entry)
        index = {gpu.uuid: at for at, gpu in enumerate(view.usable)}
        for entries in by_pod.values():
            if all(each.gpu in index for each in entries):  # else nothing comes back there anyway
                yield _having(name, entries, index)


def _having(node: str, entries: Sequence[Assignment], index: Mapping[str, int]) -> Having:
    (first, *_) = entries
    assert first.pod is not None  # by which it was found
    wanted = tuple(sorted(each.resource for each in entries))
    placed = tuple(
        Placed(each.resource, index[each.gpu], each.gpu, each.profile_id, each.placement)
        for each in entries
    )
    return Having(node, Request(first.pod, wanted, owner=first.owner), placed)


class Again:
    """Judges pods' places by the rules of one side."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._known: dict[object, Bounds | None] = {}

    def reasons(self, had: Having) -> Mapping[str, str]:
        """Return, by its code, why a pod may not have its places again; {} if it may."""
        side, view = self._side, self._side.views[had.node]
        bounds = self._bounds(had, view)
        if bounds is None:
            return {}
        asked = msgspec.structs.replace(had.request, bounds=bounds)
        beside = bounds_among(asked, side.there.ledger, view.name)
        assert beside is not None  # there are some
        # It has its room: no headroom is lost by it.
        beside = msgspec.structs.replace(beside, terms=beside.terms.keeping_nothing, spare=())
        why = objection(view, (), had.placed, beside)
        return {} if why is None else {why.code.value: why.reason}

    def _bounds(self, had: Having, view: NodeView) -> Bounds | None:
        """Return what the rules leave a pod besides what it has: the same to those like it."""
        side, request = self._side, had.request
        ledger, uid = side.there.ledger, request.pod.uid
        several = len(side.assigned.nodes_of(uid)) > 1
        alone = several or uid in ledger.assumed or side.holds.nodes_of(request.owner)
        if alone:
            return side.tenancy.bounded(request, ledger).bounds
        has = sorted(
            (view.profile_named(each.uuid, each.profile_id), each.placement.size)
            for each in had.placed
        )
        key = (side.tenancy.tenant_of(request.pod.namespace), request.wanted, *has)
        if key not in self._known:
            self._known[key] = side.tenancy.bounded(request, ledger).bounds
        return self._known[key]
