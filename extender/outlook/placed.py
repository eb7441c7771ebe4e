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
from extender.verbs.permitted import bounds_among, objection, shut
from nodeagent.api.gpunode import Assignment


class Having(msgspec.Struct, frozen=True, gc=False):
    """A pod's places on a node, what it has them for, and the ``sizes`` of what it has there.

    By profile, and sorted.
    """

    node: str
    request: Request
    placed: tuple[Placed, ...]
    sizes: tuple[tuple[str, int], ...]


def having(there: There) -> Iterator[Having]:
    """Yield every pod that has a place, node by node, once for each."""
    for view in there.views.values():
        by_pod: dict[str, list[Assignment]] = {}
        for entry in view.node.spec.assignments:
            if entry.pod is not None:
                by_pod.setdefault(entry.pod.uid, []).append(entry)
        index = {gpu.uuid: at for at, gpu in enumerate(view.usable)}
        for entries in by_pod.values():
            if all(each.gpu in index for each in entries):  # else nothing comes back there anyway
                yield _having(view, entries, index)


def _having(view: NodeView, entries: Sequence[Assignment], index: Mapping[str, int]) -> Having:
    (first, *_) = entries
    assert first.pod is not None  # by which it was found
    wanted = tuple(sorted(each.resource for each in entries))
    placed = tuple(
        Placed(each.resource, index[each.gpu], each.gpu, each.profile_id, each.placement)
        for each in entries
    )
    sizes = sorted((view.profile_named(each.gpu, each.profile_id), each.size) for each in entries)
    request = Request(first.pod, wanted, owner=first.owner)
    return Having(view.name, request, placed, tuple(sizes))


class Again:
    """Judges pods' places by the rules of one side: once for all that are alike on a node."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._bounds: dict[object, Bounds | None] = {}
        self._node = ""
        self._shut: dict[object, frozenset[str]] = {}
        self._found: dict[object, Mapping[str, str]] = {}

    def reasons(self, had: Having) -> Mapping[str, str]:
        """Return, by its code, why a pod may not have its places again; {} if it may."""
        side = self._side
        if not side.policy.rules:
            return {}
        if had.node != self._node:
            self._node, self._shut, self._found = had.node, {}, {}
        if self._known_by_name(had):
            bounds = side.tenancy.bounded(had.request, side.there.ledger).bounds
            return {} if bounds is None else self._judged(had, bounds)
        # What the rules leave a pod is the same for all of a tenant that have the same.
        alike = (side.tenancy.tenant_of(had.request.pod.namespace), had.request.wanted, had.sizes)
        if alike not in self._bounds:
            bounded = side.tenancy.bounded(had.request, side.there.ledger)
            self._bounds[alike] = bounded.bounds
        bounds = self._bounds[alike]
        if bounds is None:
            return {}
        if alike not in self._shut:
            self._shut[alike] = shut(side.views[had.node], bounds)
        # Of a GPU it matters only whether it is shut, and what its profiles are called.
        key = (alike, tuple([each.uuid in self._shut[alike] for each in had.placed]))
        if key not in self._found:
            self._found[key] = self._judged(had, bounds)
        return self._found[key]

    def _known_by_name(self, had: Having) -> bool:
        """Tell whether anything else is known of a pod or its owner: it is like no other then."""
        side, uid, ledger = self._side, had.request.pod.uid, self._side.there.ledger
        elsewhere = len(side.assigned.nodes_of(uid)) > 1 or uid in ledger.assumed
        held = bool(side.holds.nodes_of(had.request.owner))
        return elsewhere or held or had.node in ledger.nodes

    def _judged(self, had: Having, bounds: Bounds) -> Mapping[str, str]:
        asked = msgspec.structs.replace(had.request, bounds=bounds)
        beside = bounds_among(asked, self._side.there.ledger, had.node)
        assert beside is not None  # there are some
        # It has its room: no headroom is lost by it.
        beside = msgspec.structs.replace(beside, terms=beside.terms.keeping_nothing, spare=())
        why = objection(self._side.views[had.node], (), had.placed, beside)
        return {} if why is None else {why.code.value: why.reason}
