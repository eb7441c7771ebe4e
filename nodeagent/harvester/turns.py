"""Whose turn it is, where the kubelet picks among whatever devices there are.

Harvester's device plugin tells the kubelet of every device, and the kubelet takes any that nobody
has. So that a pod gets what was made for it, at any time and for each resource only one pod's
devices are made and told of, until it has them. What a VM that is off keeps, or a static layout
has, is there besides: a pod that is given one of these instead has that, and the plan follows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby

import msgspec

from nodeagent.api.gpunode import Assignment
from nodeagent.kubelet import Holder


class Turn(msgspec.Struct, frozen=True):
    """The assignments of the pods whose turn it is, and of those that have been ``served``."""

    now: frozenset[str] = frozenset()
    served: frozenset[str] = frozenset()

    def later(self, plan: Iterable[Assignment]) -> frozenset[str]:
        """Return the assignments for which nothing is to be made yet."""
        return frozenset(e.id for e in plan if e.id not in self.now and e.id not in self.served)


def turns(plan: Iterable[Assignment], holders: Iterable[Holder], begun: Collection[str]) -> Turn:
    """Return whose turn it is; something was made for those that have *begun*, which come first.

    The others come in the order of ``(since, id)``. A pod that has to wait for one of its resources
    is not overtaken in any of them.
    """
    has = Counter((each.pod.uid, each.resource) for each in holders)
    order: list[tuple[bool, str, str, str, Sequence[Assignment]]] = []
    served: set[str] = set()
    for uid, assignments in _pods(plan):
        wants = Counter(each.resource for each in assignments)
        if all(has[uid, resource] >= count for resource, count in wants.items()):
            served.update(each.id for each in assignments)
            continue
        first = min(assignments, key=lambda each: (each.since, each.id))
        waits = not any(each.id in begun for each in assignments)
        order.append((waits, first.since, first.id, uid, assignments))
    now: set[str] = set()
    taken: dict[str, str] = {}
    for *_, uid, assignments in sorted(order, key=lambda each: each[:3]):
        if all(taken.get(each.resource, uid) == uid for each in assignments):
            now.update(each.id for each in assignments)
        for each in assignments:
            taken.setdefault(each.resource, uid)
    return Turn(frozenset(now), frozenset(served))


def may_come(
    plan: Iterable[Assignment], turn: Turn, *, ready: Collection[str], risky: Collection[str]
) -> frozenset[str]:
    """Return the assignments of the pods whose turn it is and that have all they want.

    *ready* are the assignments whose device the kubelet could give away now; no pod may come for a
    *risky* resource.
    """
    return frozenset(
        each.id
        for _, assignments in _pods(each for each in plan if each.id in turn.now)
        for each in assignments
        if all(it.id in ready and it.resource not in risky for it in assignments)
    )


def unsafe(devices: Mapping[str, Collection[str]], known: Collection[str]) -> frozenset[str]:
    """Return the resources of which the kubelet has a device other than those *known* to be well.

    Such a one is on its way out: no pod may come for the resource now, for it might be given that.
    """
    return frozenset(name for name, ids in devices.items() if not set(ids) <= set(known))


def expected(plan: Iterable[Assignment], realized: Collection[str], turn: Turn) -> frozenset[str]:
    """Return the resources for which a pod may come any moment: it was told that it may."""
    return frozenset(
        each.resource for each in plan if each.id in realized and each.id not in turn.served
    )


def _pods(plan: Iterable[Assignment]) -> Iterable[tuple[str, Sequence[Assignment]]]:
    ordered = sorted(((each.pod.uid, each) for each in plan if each.pod), key=lambda it: it[0])
    for uid, group in groupby(ordered, key=lambda it: it[0]):
        yield uid, [each for _, each in group]
