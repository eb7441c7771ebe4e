"""Whose what is on a node: by namespace, for what tenants may not share and for what they may have.

A GPU instance belongs to the pod whose entry in the plan it is, or was a moment ago; one that is
reserved, to its owner's namespace.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from extender.claims import is_ahead
from extender.policy.bounds import NOBODY, UNKNOWN
from extender.snapshot import NodeView, Taken, taken_by
from nodeagent.api.gpunode import Assignment

Occupants = frozenset[tuple[str, str]]
"""GPUs, each with a namespace that has something there."""

Charges = Mapping[tuple[str, str], tuple[int, int]]
"""By namespace and profile: how many GPU instances, and their memory slices."""


def namespace_of(entry: Assignment) -> str:
    """Return the namespace of an entry of the plan."""
    about = entry.pod or entry.owner
    return UNKNOWN if about is None else about.namespace


def occupants(view: NodeView) -> Occupants:
    """Return who has something on each GPU, as far as the plan and the agent know."""
    known = view.memo.get("occupants")
    if known is None:
        known = view.memo["occupants"] = _occupants(view)
    return cast(Occupants, known)


def _occupants(view: NodeView) -> Occupants:
    planned = {taken_by(each): namespace_of(each) for each in view.node.spec.assignments}
    planned |= {each.taken: each.namespace for each in view.releasing}
    found = {(each.gpu, namespace_of(each)) for each in view.in_force}
    found.update((each.taken.gpu, each.namespace) for each in view.releasing)
    for gpu in view.node.status.gpus:
        for each in gpu.instances:
            stranger = UNKNOWN if each.assignment else NOBODY
            there = planned.get(Taken(gpu.uuid, each.profile_id, each.placement), stranger)
            found.add((gpu.uuid, there if each.holder is None else each.holder.namespace))
    return frozenset(found)


def charges(view: NodeView) -> Charges:
    """Return what the plan's entries in force come to.

    Not what is kept ahead for a later move: its VM is charged for where it still is.
    """
    known = view.memo.get("charges")
    if known is None:
        found: dict[tuple[str, str], tuple[int, int]] = {}
        for each in view.in_force:
            if is_ahead(each):
                continue
            key = (namespace_of(each), view.profile_named(each.gpu, each.profile_id))
            count, slices = found.get(key, (0, 0))
            found[key] = (count + 1, slices + each.size)
        known = view.memo["charges"] = found
    return cast(Charges, known)
