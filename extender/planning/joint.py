"""The pods that wait, planned together: what is solved, and what its answer means for the ledger.

Pure and self-contained, so that it may run in a thread while the hooks go on: views and ledgers are
immutable, and a plan from an older state is checked wherever it is followed (``verbs.planned``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from extender.ledger import Ledger, Planned
from extender.packing.choose import Bin, Placed
from extender.packing.problem import Fleet, Problem
from extender.packing.problem import Request as Packed
from extender.packing.solve import Status, solve
from extender.request import Request
from extender.snapshot import NodeView
from extender.verbs.verdicts import Code, unsuitable


class Waiting(msgspec.Struct, frozen=True):
    """A pod that was filtered and has no place: ``nodes`` are its last filter's candidates.

    ``since`` is its first filter, on the caller's monotonic clock.
    """

    request: Request
    nodes: tuple[str, ...]
    since: float

    @property
    def uid(self) -> str:
        """The pod's UID."""
        return self.request.pod.uid


class JointPlan(msgspec.Struct, frozen=True):
    """The answer: places by pod UID; who was considered; and what is known of its quality."""

    places: Mapping[str, tuple[str, tuple[Placed, ...]]] = {}
    considered: tuple[str, ...] = ()
    status: Status = Status.OPTIMAL

    def planned(
        self, *, until: float, namespaces: Mapping[str, str] | None = None
    ) -> Mapping[str, Planned]:
        """Return the places as the ledger keeps them, with the pods' *namespaces*."""
        of = namespaces or {}
        return {
            uid: Planned(node, placed, until, of.get(uid, ""))
            for uid, (node, placed) in self.places.items()
        }


class Limits(msgspec.Struct, frozen=True):
    """At most so many pods in one problem, and seconds for its solution.

    ``caps`` are the memory slices that tenants may still have.
    """

    pods: int
    seconds: float
    caps: Mapping[str, int] = {}


def joint_plan(
    views: Mapping[str, NodeView],
    ledger: Ledger,
    waiting: Sequence[Waiting],
    limits: Limits,
    *,
    clock: Callable[[], float],
) -> JointPlan:
    """Plan *waiting* on what is neither taken nor promised; members of a gang all or none.

    The places of the ledger's own joint plan count as free: this plan replaces it.
    """
    considered = bounded(waiting, limits.pods)
    fleet = _nodes(views, ledger.plan({}), {name for each in considered for name in each.nodes})
    if not considered or not fleet:
        return JointPlan(considered=tuple(each.uid for each in considered))
    known: dict[tuple[tuple[str, ...], tuple[str, ...]], frozenset[str] | None] = {}
    for each in considered:
        key = (each.nodes, each.request.wanted)
        if key not in known:
            known[key] = _allowed(views, fleet.keys(), *key)
    requests = [
        Packed(
            id=each.uid,
            wanted=each.request.wanted,
            priority=each.request.priority,
            gang=_gang(each.request),
            nodes=known[each.nodes, each.request.wanted],
            tenant=None if each.request.bounds is None else each.request.bounds.terms.name,
        )
        for each in considered
    ]
    outcome = solve(
        Problem(Fleet.of(fleet), requests, limits.caps), seconds=limits.seconds, clock=clock
    )
    places: dict[str, tuple[str, list[Placed]]] = {}
    bins = {(name, bin.uuid): at for name in fleet for at, bin in enumerate(fleet[name])}
    for each_place in outcome.solution.assignments:
        _, placed = places.setdefault(each_place.request, (each_place.node, []))
        placed.append(
            Placed(
                each_place.wanted,
                bins[each_place.node, each_place.gpu],
                each_place.gpu,
                each_place.profile_id,
                each_place.placement,
            )
        )
    return JointPlan(
        {uid: (node, tuple(placed)) for uid, (node, placed) in places.items()},
        tuple(each.uid for each in considered),
        outcome.status,
    )


def bounded(waiting: Sequence[Waiting], pods: int) -> Sequence[Waiting]:
    """Return at most *pods* of them: by priority, then by arrival; never a part of a gang."""
    together: dict[object, list[Waiting]] = defaultdict(list)
    for each in sorted(waiting, key=lambda each: (-each.request.priority, each.since)):
        together[each.request.gang or each.uid].append(each)
    return tuple(_whole(together.values(), pods))


def _whole(together: Iterable[Sequence[Waiting]], pods: int) -> Iterator[Waiting]:
    left = pods
    for group in together:
        if len(group) <= left:
            left -= len(group)
            yield from group


def _nodes(
    views: Mapping[str, NodeView], ledger: Ledger, allowed: set[str]
) -> dict[str, Sequence[Bin]]:
    """Return the GPUs of the nodes on which anything may be placed."""
    found: dict[str, Sequence[Bin]] = {}
    for name in allowed:
        view = views.get(name)
        if view is None or not view.takes_new:
            continue
        bins = view.bins(ledger.assumed_on(name) + ledger.presumed_on(name))
        if bins:
            found[name] = bins
    return found


def _allowed(
    views: Mapping[str, NodeView],
    fleet: Collection[str],
    nodes: Sequence[str],
    wanted: tuple[str, ...],
) -> frozenset[str] | None:
    """Return the nodes of the fleet that may serve *wanted*, None if all may.

    One that merely has no such GPUs counts as allowed: the fewer sets, the smaller the problem.
    """
    found = set()
    for name in nodes:
        if name in fleet:
            why_not = unsuitable(views[name], wanted)
            if why_not is None or why_not.code is Code.UNKNOWN_RESOURCE:
                found.add(name)
    return None if len(found) == len(fleet) else frozenset(found)


def _gang(request: Request) -> str | None:
    gang = request.gang
    return None if gang is None else f"{gang.namespace}/{gang.name}"
