"""A node's view after its GpuNode has changed: what may still be there is not free yet."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from extender.occupants import namespace_of
from extender.snapshot import NodeView, Releasing, taken_by
from nodeagent.api.gpunode import GpuNode


def left_behind(node: GpuNode, *, known: Collection[str] = ()) -> tuple[Releasing, ...]:
    """Return what there may be in the places of reservations other than those *known* (by id).

    A reservation has no GPU instance; that of the pod it was made from may be yet to go, as far as
    the agent has said.
    """
    generation = node.metadata.generation
    if node.status.observed_generation >= generation:
        return ()
    return tuple(
        Releasing(taken_by(each), generation, namespace_of(each))
        for each in node.spec.assignments
        if each.pod is None and each.id not in known
    )


def unanswered(node: GpuNode) -> int:
    """Return the generation of a plan nobody here has seen come about; 0 once the agent has.

    An entry that was taken back before is in no plan any more, and its GPU instance, if the agent
    was about to make it, not in the inventory yet.
    """
    generation = node.metadata.generation
    return generation if node.status.observed_generation < generation else 0


def successor(view: NodeView, newer: GpuNode, *, listed: bool = False) -> NodeView:
    """Return *view* after another state of its GpuNode; itself, if that is older and not *listed*.

    A write's reply and the watch event of an earlier write overtake each other; the versions tell
    which state is the newer one. Where states between the two have been missed, more may be there
    than either plan says.
    """
    older = view.node
    if newer == older or (newer.version < older.version and not listed):
        return view
    if newer.metadata.uid != older.metadata.uid:
        return msgspec.structs.replace(
            view,
            node=newer,
            releasing=left_behind(newer),
            unanswered=unanswered(newer),
            lapsed=frozenset(),
        )
    kept = {taken_by(each) for each in newer.spec.assignments if each.pod is not None}
    had = (each for each in older.spec.assignments if each.pod is not None)
    given_back = (each for each in had if taken_by(each) not in kept)
    releasing = (
        *view.releasing,
        *(
            Releasing(taken_by(each), newer.metadata.generation, namespace_of(each))
            for each in given_back
        ),
        *left_behind(newer, known={each.id for each in view.reservations}),
    )
    seen = newer.status.observed_generation
    unseen = newer.metadata.generation > older.metadata.generation + 1
    return msgspec.structs.replace(
        view,
        node=newer,
        releasing=tuple(r for r in releasing if r.generation > seen),
        unanswered=unanswered(newer) if unseen else view.unanswered,
        lapsed=view.lapsed.intersection(e.id for e in newer.spec.assignments if e.pod is None),
    )
