"""The pods that wait, planned together: what is solved, and what its answer means for the ledger.

Pure and self-contained, so that it may run in a thread while the hooks go on: views and ledgers are
immutable, and a plan from an older state is checked wherever it is followed (``verbs.planned``).

GPUs that are avoided, because instances could not be made on them of late, come last here as they
do for a single pod: they are planned with in a second try, by itself, for those alone whom the
first one found no place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set

import msgspec

from extender.ledger import Ledger, Planned
from extender.packing.check import certify
from extender.packing.choose import INFEASIBLE, Bin, Placed, choose
from extender.packing.problem import Fleet, Problem
from extender.packing.problem import Request as Packed
from extender.packing.solve import LevelResult, Status, solve
from extender.planning.waiting import Waiting as Waiting
from extender.planning.waiting import bounded as bounded
from extender.request import Request, Wanted
from extender.snapshot import NodeView
from extender.verbs.verdicts import Code, unsuitable

MOST_LOOKS = 4096
"""At nodes, for pods that none may have room for; a look at a full one takes some 10 us."""


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
    together take what the limits allow: if the first leaves no time, the second is greedy. Raises
    :class:`~extender.packing.check.Refuted` for a plan that the checker does not pass.
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
    problem, fleet = posed(views, ledger, considered, caps)
    if not problem.requests:
        return JointPlan(considered=tuple(each.uid for each in considered))
    outcome = solve(problem, seconds=max(0.0, ends - clock()), clock=clock)
    certify(problem, outcome.solution, [level.attained for level in outcome.levels])
    places: dict[str, tuple[str, list[Placed]]] = {}
    used = {each.node for each in outcome.solution.assignments}
    bins = {(name, bin.uuid): at for name in used for at, bin in enumerate(fleet[name])}
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


def posed(
    views: Mapping[str, NodeView],
    ledger: Ledger,
    considered: Sequence[Waiting],
    caps: Mapping[str, int],
) -> tuple[Problem, Mapping[str, Sequence[Bin]]]:
    """Return the problem that pods pose who may have a place, and the GPUs in it by node.

    Takes its time from the solver's: 40,000 GPUs and 300 pods are to be read in some 50 ms.
    """
    allowed = frozenset[str]().union(*{each.nodes for each in considered})
    fleet = _nodes(views, ledger, allowed)
    requests = _hopeful(fleet, _requests(views, frozenset(fleet), considered))
    return Problem(Fleet.of(fleet if requests else {}), requests, caps), fleet


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
    views: Mapping[str, NodeView], fleet: frozenset[str], considered: Sequence[Waiting]
) -> list[Packed]:
    """Say what the pods ask for as the solver reads it."""
    # Only there the reason why a node does not serve something may be another than its GPUs.
    peculiar = [views[name] for name in fleet if _peculiar(views[name])]
    known: dict[tuple[frozenset[str], Wanted], frozenset[str] | None] = {}
    for each in considered:
        key = (each.nodes, each.request.wanted)
        if key not in known:
            known[key] = _allowed(peculiar, fleet, *key)
    return [
        Packed(
            id=each.uid,
            wanted=each.request.wanted,
            priority=each.request.priority,
            gang=_gang(each.request),
            spread=each.request.spread,
            nodes=known[each.nodes, each.request.wanted],
            tenant=_tenant(each.request),
        )
        for each in considered
    ]


def _hopeful(fleet: Mapping[str, Sequence[Bin]], requests: Sequence[Packed]) -> list[Packed]:
    """Leave out whom no node has room for even alone, and the gangs of such.

    Most plans are made while little is free: what cannot be placed is seen here sooner than proven
    there. Where it is not seen within ``MOST_LOOKS``, the solver has it to prove.
    """
    room: dict[tuple[tuple[str, ...], frozenset[str] | None], bool] = {}
    looks = MOST_LOOKS
    hopeless_gangs: set[str | None] = set()
    for each in requests:
        key = (each.wanted, each.nodes)
        if key not in room:
            room[key] = False
            for name in fleet if each.nodes is None else each.nodes:
                looks -= 1
                if looks < 0 or choose(fleet[name], each.wanted) is not INFEASIBLE:
                    room[key] = True
                    break
        if not room[key]:
            hopeless_gangs.add(each.gang)
    hopeless_gangs.discard(None)
    return [
        each
        for each in requests
        if room[each.wanted, each.nodes] and each.gang not in hopeless_gangs
    ]


def _nodes(
    views: Mapping[str, NodeView], ledger: Ledger, allowed: Set[str]
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


def _peculiar(view: NodeView) -> bool:
    """Tell whether a node that takes new pods keeps some from what its GPUs could serve."""
    return bool(view.node.status.rivals) or view.obtainable != view.offered


def _allowed(
    peculiar: Iterable[NodeView], fleet: frozenset[str], nodes: frozenset[str], wanted: Wanted
) -> frozenset[str] | None:
    """Return the nodes of the fleet that may serve *wanted*, None if all may.

    One that merely has no such GPUs counts as allowed: the fewer sets, the smaller the problem.
    """
    barred = [
        view.name
        for view in peculiar
        if (why_not := unsuitable(view, wanted)) and why_not.code is not Code.UNKNOWN_RESOURCE
    ]
    if not barred and nodes >= fleet:
        return None
    return (fleet & nodes).difference(barred)


def _gang(request: Request) -> str | None:
    gang = request.gang
    return None if gang is None else f"{gang.namespace}/{gang.name}"
