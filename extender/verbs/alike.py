"""Whether a node's change can make any verdict another: most reports tell of nothing of the kind.

Of the four writes in a VM's life two change what is free: the plan that promises slices, and the
report that they are free again. The others tell that an instance stands where it was promised, or
that a promise was taken back whose instance is still there.
"""

from __future__ import annotations

from extender.occupants import occupants
from extender.snapshot import NodeView


def alike(before: NodeView, now: NodeView, *, ruled: bool) -> bool:
    """Tell whether every request has the same verdict on both views, and the same rank.

    *ruled* says whether rules of the policy bear on any request: then it matters whose what is
    there is, too. False may be said of views that are alike, never True of others.
    """
    return (
        _as_a_whole(before) == _as_a_whole(now)
        and bool(before.usable and now.usable)
        and not (before.standing or now.standing)  # whom these are kept for may have changed
        and _gpus(before) == _gpus(now)
        and before.bins() == now.bins()
        and (not ruled or occupants(before) == occupants(now))
    )


def _as_a_whole(view: NodeView) -> tuple[object, ...]:
    """Return what of a node bears on every GPU of it."""
    status = view.node.status
    return (
        view.reported,
        view.stale,
        view.cordoned,
        view.failing,
        view.unsettled,
        view.rival,
        view.policy,
        view.labels,
        status.mode,
        status.resources,
        status.rivals,
    )


def _gpus(view: NodeView) -> tuple[object, ...]:
    """Return what the usable GPUs are; which instances they hold is for their bins to tell."""
    status = view.node.status
    kinds = [(gpu.uuid, gpu.geometry, gpu.vgpu_types) for gpu in view.usable]
    return kinds, status.geometries, status.vgpu_types, view.obtainable
