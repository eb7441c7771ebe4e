"""A node's view after its GpuNode has changed: what may still be there is not free yet.

And what pods had in a GpuNode that was deleted: until it is written again, no plan says so.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from extender.occupants import namespace_of
from extender.snapshot import NodeView, Releasing, taken_by
from nodeagent.api.gpunode import Assignment, GpuNode


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
    newer = _with_the_last_word(older, newer)
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


def _with_the_last_word(older: GpuNode, newer: GpuNode) -> GpuNode:
    """Return the *newer* state of a GpuNode with what its agent told last, be it in the older one.

    A word that was long on its way may take the place of later ones; if its agent lives, it tells
    those again. Of an API server restored from a backup the older word counts, for its plan is as
    old.
    """
    uid, generation = newer.metadata.uid, newer.metadata.generation
    if (uid, older.status.agent_epoch) != (older.metadata.uid, newer.status.agent_epoch):
        return newer
    restored = newer.version < older.version or generation < older.metadata.generation
    if restored or newer.status.sequence >= older.status.sequence:
        return newer
    return msgspec.structs.replace(newer, status=older.status)


def unwritten(
    lost: Sequence[Assignment], before: NodeView | None, now: NodeView | None
) -> Sequence[Assignment]:
    """Return what pods had in plans of a node that were deleted, and its plan does not say now.

    *lost* is what that was *before*. Of a pod that has something again, or whose place somebody
    else has got, nothing is to be written any more.
    """
    gone = before is not None and (now is None or now.node.metadata.uid != before.node.metadata.uid)
    if before is not None and gone:
        had = [each for each in before.node.spec.assignments if each.pod is not None]
        lost = (*_besides(had, lost), *had)
    return lost if now is None or not lost else _besides(now.node.spec.assignments, lost)


def _besides(plan: Sequence[Assignment], lost: Sequence[Assignment]) -> tuple[Assignment, ...]:
    """Return all of those pods that a *plan* has nothing for, and whose places it gives nobody."""
    planned = [each for each in plan if each.pod is not None]
    served = {each.pod.uid for each in planned if each.pod}
    over = {
        each.pod.uid
        for each in lost
        if each.pod and (each.pod.uid in served or meets(each, planned))
    }
    return tuple(each for each in lost if each.pod and each.pod.uid not in over)


def meets(entry: Assignment, others: Sequence[Assignment]) -> bool:
    """Tell whether an entry has slices that others have, too."""
    return any(
        entry.gpu == each.gpu and entry.placement.mask & each.placement.mask for each in others
    )
