"""Whom to evict for a pod that finds no room: the cheapest of the sets that suffice, on one node.

What suffices is found from where the pod could lie: of each legal arrangement on the GPUs, the pods
in its way. No set of victims that suffices lacks one of these, so that the cheapest of them is the
cheapest there is (a property, checked against trying every set). Each is judged again by the very
rules of placement before it is proposed; what these demand beyond room nobody is evicted for.

Cheaper is: the highest priority among the victims lower; then fewer of them; fewer memory slices;
fewer VMs that are not to be moved; those placed last. Who is leaving anyway costs nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

import msgspec

from extender.ledger import Ledger
from extender.packing.choose import Choice
from extender.request import Request
from extender.snapshot import NodeView
from extender.verbs.ground import Ground
from extender.verbs.obstacles import Search
from extender.verbs.preempt import had_by, keeps_devices, placed_without
from extender.verbs.verdicts import unsuitable

MOST_JUDGED = 16
"""Sets on one node; the first nearly always passes, for room is nearly always what is missing."""

_NOBODY = -(2**63)


class Victim(msgspec.Struct, frozen=True, gc=False):
    """A pod that may be evicted; ``leaving`` if it goes without that.

    ``slices`` are all the memory slices it has; ``since`` is when it was placed, in seconds since
    1970, 0.0 where that is not known.
    """

    uid: str
    priority: int
    slices: int
    movable: bool = True
    since: float = 0.0
    leaving: bool = False


Unit = frozenset[Victim]
"""Pods that go together: one alone, or all of a gang."""


class Price(NamedTuple):
    """What evicting costs; the first difference decides. ``age`` grows with the time one ran."""

    priority: int
    pods: int
    slices: int
    unmovable: int
    age: float


class Preemption(msgspec.Struct, frozen=True):
    """Whom to evict, the lowest priority first, and where the pod will be.

    ``choice`` is made as if they were gone.
    """

    node: str
    victims: tuple[Victim, ...]
    choice: Choice
    price: Price


def price(victims: Iterable[Victim]) -> Price:
    """Return what it costs that these pods go."""
    evicted = [each for each in victims if not each.leaving]
    return Price(
        max((each.priority for each in evicted), default=_NOBODY),
        len(evicted),
        sum(each.slices for each in evicted),
        sum(not each.movable for each in evicted),
        -min((each.since for each in evicted), default=0.0),
    )


def cheapest_on(
    view: NodeView,
    ledger: Ledger,
    units: Mapping[str, Unit],
    asked: Callable[[Collection[str]], Request],
    *,
    allows: Callable[[Collection[str]], bool] = lambda uids: True,
    waits: bool = True,
) -> Preemption | None:
    """Return the cheapest preemption on a node, None if eviction does not help there.

    *units* are the pods here that may go, by UID; *asked* is the request with what the rules leave
    it once some pods are gone; *allows* tells whether pods may be evicted together: if they may
    not, nor may they and others. What is leaving is counted on only if the pod *waits* for it.
    """
    request = asked(())
    ground = _ground(view, ledger, units, request, waits=waits)
    if ground is None:
        return None

    @functools.cache
    def going(uids: frozenset[str]) -> frozenset[Victim]:
        return frozenset().union(*(units[uid] for uid in uids))

    def cost(uids: frozenset[str]) -> Price:
        return price(going(uids))

    def allowed(uids: frozenset[str]) -> bool:
        return allows([each.uid for each in going(uids) if not each.leaving])

    sufficient = Search(ground, request, cost, allowed).sufficient()
    found = sorted(sufficient, key=lambda each: (cost(each), sorted(each)))
    for uids in found[:MOST_JUDGED]:
        victims = going(uids)
        gone = [each.uid for each in victims]
        leaving = had_by(view, gone) | ground.freed
        choice = placed_without(view, ledger, asked(gone), leaving)
        if isinstance(choice, Choice):
            evicted = (each for each in victims if not each.leaving)
            ordered = sorted(evicted, key=lambda each: (each.priority, -each.since, each.uid))
            return Preemption(view.name, tuple(ordered), choice, price(victims))
    return None


def may_help(
    view: NodeView, ledger: Ledger, units: Mapping[str, Unit], request: Request, *, waits: bool
) -> bool:
    """Tell whether eviction may help on a node; if not, :func:`cheapest_on` finds no victims there.

    By counting alone: for a pod of several vGPUs it takes a small part of the time.
    """
    ground = _ground(view, ledger, units, request, waits=waits)
    return ground is not None and ground.may_do(request.wanted)


def _ground(
    view: NodeView, ledger: Ledger, units: Mapping[str, Unit], request: Request, *, waits: bool
) -> Ground | None:
    """Return what there is on a node to make room from, None where nothing ever helps."""
    if unsuitable(view, request.wanted) is not None or keeps_devices(view):
        return None
    if not waits:
        units = {uid: unit for uid, unit in units.items() if not any(v.leaving for v in unit)}
    return Ground(view, ledger, request, units, waits=waits)
