"""The pods that wait, planned together: what is solved, and what its answer means for the ledger.

Pure and self-contained, so that it may run in a thread while the hooks go on: views and ledgers are
immutable, and a plan from an older state is checked wherever it is followed (``verbs.planned``).

GPUs that are avoided, because instances could not be made on them of late, come last here as they
do for a single pod: they are planned with in a second try, by itself, for those alone whom the
first one found no place.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from extender.ledger import Ledger, Planned
from extender.packing.choose import Bin, Placed
from extender.packing.problem import Fleet, Problem
from extender.packing.problem import Request as Packed
from extender.packing.solve import LevelResult, Status, solve
from extender.request import Request
from extender.snapshot import NodeView
from extender.verbs.verdicts import Code, unsuitable


class Waiting(msgspec.Struct, frozen=True):
    """A pod that was filtered and has no place: ``nodes`` are its last filter's candidates.

    ``since`` is its first filter, on the caller's monotonic clock; ``turn`` is the number of the
    last plan that found no place for it, 0 if none has looked for one.
    """

    request: Request
    nodes: tuple[str, ...]
    since: float
    turn: int = 0

    @property
    def uid(self) -> str:
        """The pod's UID."""
        return self.request.pod.uid


class JointPlan(msgspec.Struct, frozen=True):
    """The answer: places by pod UID; who was considered; and what is known of its quality.

    ``gaps`` are, for each level of the objective, what its bound leaves possible beyond what the
    plan attains, as a share of the bound; infinite where no bound was proven.
    """

    places: Mapping[str, tuple[str, tuple[Placed, ...]]] = {}
    considered: tuple[str, ...] = ()
    status: Status = Status.OPTIMAL
    gaps: Mapping[str, float] = {}

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

    The places of the ledger's own joint plan count as free: this plan replaces it. Both tries
    together take what the limits allow: if the first leaves no time, the second is greedy.
    """
    ends = clock() + limits.seconds
    considered = bounded(waiting, limits.pods)
    first = _planned(views, ledger.plan({}), considered, limits.caps, ends, clock)
    left = [each for each in considered if each.uid not in first.places]
    if not _avoided_for(left, ledger):
        return first
    besides = ledger.plan(first.planned(until=math.inf)).trust(ledger.avoided)
    second = _planned(views, besides, left, _caps_left(limits, considered, first), ends, clock)
    return JointPlan(
        {**first.places, **second.places},
        first.considered,
        first.status.beside(second.status),
        largest_gaps(first.gaps, second.gaps),
    )


def largest_gaps(one: Mapping[str, float], other: Mapping[str, float]) -> Mapping[str, float]:
    """Return for two plans carried out side by side what is known of either, level by level."""
    return {
        level: max(one.get(level, 0.0), other.get(level, 0.0))
        for level in one.keys() | other.keys()
    }


def gaps(levels: Sequence[LevelResult]) -> Mapping[str, float]:
    """Return the gaps of a solver's levels, those of all priorities as one.

    >>> gaps([LevelResult("", 6, 8), LevelResult("", 7, 7), LevelResult("", -20, None)])
    {'admitted': 0.25, 'value': 0.0, 'gpus': inf}
    """
    *admitted, value, gpus = levels
    return {
        "admitted": max(map(_share, admitted), default=0.0),
        "value": _share(value),
        "gpus": _share(gpus),
    }


def _share(level: LevelResult) -> float:
    if level.gap is None:
        return math.inf
    return level.gap / max(1, abs(level.bound or 0))


def _avoided_for(left: Iterable[Waiting], ledger: Ledger) -> bool:
    """Tell whether a pod that is *left* without a place may go where a GPU is avoided."""
    nodes = {each.promise.node for each in ledger.avoided.values()}
    return bool(nodes) and any(not nodes.isdisjoint(each.nodes) for each in left)


def _planned(
    views: Mapping[str, NodeView],
    ledger: Ledger,
    considered: Sequence[Waiting],
    caps: Mapping[str, int],
    ends: float,
    clock: Callable[[], float],
) -> JointPlan:
    """Plan pods on what the ledger has not promised, avoided or planned; the solver *ends* then."""
    fleet = _nodes(views, ledger, {name for each in considered for name in each.nodes})
    if not considered or not fleet:
        return JointPlan(considered=tuple(each.uid for each in considered))
    problem = Problem(Fleet.of(fleet), _requests(views, fleet.keys(), considered), caps)
    outcome = solve(problem, seconds=max(0.0, ends - clock()), clock=clock)
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
        gaps(outcome.levels) if outcome.levels else {},
    )


def _caps_left(limits: Limits, considered: Sequence[Waiting], plan: JointPlan) -> Mapping[str, int]:
    """Return what tenants may have besides what a plan gives them.

    The solver charges a pod by the smallest profile that serves it, so that a plan may give more
    than is left. Less than nothing no plan can leave, and the problem would be infeasible for all.
    """
    caps = dict(limits.caps)
    for each in considered:
        tenant = _tenant(each.request)
        if tenant in caps and each.uid in plan.places:
            _, placed = plan.places[each.uid]
            caps[tenant] -= sum(one.placement.size for one in placed)
    return {tenant: max(0, left) for tenant, left in caps.items()}


def _tenant(request: Request) -> str | None:
    return None if request.bounds is None else request.bounds.terms.name


def _requests(
    views: Mapping[str, NodeView], fleet: Collection[str], considered: Sequence[Waiting]
) -> list[Packed]:
    """Say what the pods ask for as the solver reads it."""
    known: dict[tuple[tuple[str, ...], tuple[str, ...]], frozenset[str] | None] = {}
    for each in considered:
        key = (each.nodes, each.request.wanted)
        if key not in known:
            known[key] = _allowed(views, fleet, *key)
    return [
        Packed(
            id=each.uid,
            wanted=each.request.wanted,
            priority=each.request.priority,
            gang=_gang(each.request),
            nodes=known[each.nodes, each.request.wanted],
            tenant=_tenant(each.request),
        )
        for each in considered
    ]


def bounded(waiting: Sequence[Waiting], pods: int) -> Sequence[Waiting]:
    """Return at most *pods* of them: by priority, then by arrival; never a part of a gang.

    If they are more, those of one priority take turns: first come whom no plan has looked at yet.
    """
    together: dict[object, list[Waiting]] = defaultdict(list)
    for each in sorted(waiting, key=_precedence):
        together[each.request.gang or each.uid].append(each)
    if len(waiting) <= pods:
        return tuple(each for group in together.values() for each in group)
    turns = sorted(together.values(), key=_turn)
    chosen = {each.uid for each in _whole(turns, pods)}
    return tuple(each for group in together.values() for each in group if each.uid in chosen)


def _precedence(waiting: Waiting) -> tuple[int, float]:
    return -waiting.request.priority, waiting.since


def _turn(group: Sequence[Waiting]) -> tuple[int, int]:
    """Return what a gang or a pod is sorted by; a gang with a new member has not had its turn."""
    return -group[0].request.priority, min(each.turn for each in group)


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
