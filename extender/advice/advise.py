"""Advice on a goal: planned, judged by the policy's rules, and told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from extender.advice.asked import Asked
from extender.advice.document import Advice, Obstacle, Outcome
from extender.advice.errands import Errands, errands
from extender.advice.rules import objections
from extender.advice.setting import EVICTION_REFUSED, Manner, Setting
from extender.advice.telling import Teller, refused
from extender.advice.yard import Yard, yard
from extender.moves import Infeasible, Plan, instead, plan
from extender.moves.obstacles import things_asked
from nodeagent.api.gpunode import Assignment

SECONDS = 5.0
"""For the solver; what it has found by then is told, with how far that is known to be from best."""

MOST_REASONS = 8
REASON_SECONDS = 2.0
"""For how many of those that move, and for how long, it is found out what would move instead."""


NOT_FILTERED = (
    "on which nodes it may be is not known: kube-scheduler has not asked for it since this extender"
    " leads, and does so when it tries the pod again"
)

OF_A_GANG = "it is one of a gang, whose pods are placed together or not at all"

NOT_BORNE_OUT = (
    "one plan after the other would move a VM that leaves otherwise, or not at all; how all would"
    " leave is not found out in one go"
)


class Advised(NamedTuple):
    """Advice, what moves, and what is to be done to carry it out.

    ``moved`` are entries with a pod; ``there`` and ``plan`` what the advice was made of.
    """

    advice: Advice
    moved: tuple[Assignment, ...] = ()
    errands: Errands = Errands()
    there: Yard | None = None
    plan: Plan | None = None


def advise(
    setting: Setting, asked: Asked, *, clock: Callable[[], float], seconds: float = SECONDS
) -> Advised:
    """Return which VMs to move so that what is asked for is attained; *clock* is monotonic."""
    unknown, unplanned = tuple(_unknown(setting, asked)), tuple(_unplanned(setting, asked))
    if unknown or unplanned:
        said = Advice(
            Outcome.INFEASIBLE if unknown else Outcome.UNKNOWN,
            tuple(asked.sentences()),
            setting.policy,
            setting.policy_version,
            nodes=len(setting.views),
            obstacles=(*unknown, *unplanned),
        )
        return Advised(said)
    there = yard(setting, asked)
    found = plan(there.problem, seconds=seconds, clock=clock)
    best = found if isinstance(found, Plan) else found.nearest
    against = () if best is None else tuple(objections(setting, there, best))
    if against:
        best = None
    teller = _teller(setting, there)
    why_not = tuple(_why_not(teller, found)) if isinstance(found, Infeasible) else ()
    left_out = tuple(teller.left_out()) if isinstance(found, Infeasible) else ()
    said = Advice(
        _outcome(asked, found, against, left_out),
        tuple(asked.sentences()),
        setting.policy,
        setting.policy_version,
        nodes=len(setting.views),
        obstacles=(*why_not, *left_out, *against),
        asked=things_asked(there.problem),
        attained=found.attained if isinstance(found, Infeasible) else things_asked(there.problem),
        budgets=setting.guarded,
        warnings=tuple(_warnings(setting, asked)),
    )
    if best is None:
        return Advised(said)
    said = msgspec.structs.replace(
        said,
        moves=tuple(teller.moves(best, {})),
        places=tuple(teller.places(best)),
        gpus=tuple(teller.maps(best)),
        cost=best.cost,
        least_moves=best.least_moves,
        least_cost=best.least_cost,
        optimal=best.optimal,
    )
    return Advised(said, _moved(there, best), errands(there, best), there, best)


def with_reasons(setting: Setting, found: Advised, *, clock: Callable[[], float]) -> Advised:
    """Return advice that attains its goals with why these VMs move and not others.

    What was advised stays as it is; what cannot be found out in time is not told. Whether caps and
    headroom would let the others move is not looked at.
    """
    there, best = found.there, found.plan
    if there is None or best is None or not found.advice.attains or found.advice.some_stay:
        return found
    reasons = {
        each.occupant: each
        for each in instead(
            there.problem, best, most=MOST_REASONS, seconds=REASON_SECONDS, clock=clock
        )
    }
    moves = tuple(_teller(setting, there).moves(best, reasons))
    return found._replace(advice=msgspec.structs.replace(found.advice, moves=moves))


def not_borne_out(found: Advised, manners: Iterable[Manner]) -> Advised:
    """Return what is said instead of a plan when it is not so what it was made of.

    *manners* tell how VMs would leave, as far as that is known.
    """
    meant, many = found.advice, sum(each.why == EVICTION_REFUSED for each in manners)
    said = Advice(
        Outcome.UNKNOWN,
        meant.goals,
        meant.policy,
        meant.policy_version,
        nodes=meant.nodes,
        obstacles=(Obstacle(NOT_BORNE_OUT), *refused(many)),
        asked=meant.asked,
        budgets=meant.budgets,
        warnings=meant.warnings,
    )
    return Advised(said)


def _teller(setting: Setting, there: Yard) -> Teller:
    return Teller(there, {} if setting.terms is None else setting.terms.tenants)


def _why_not(teller: Teller, found: Infeasible) -> Iterator[Obstacle]:
    """Yield what keeps the goals from being attained, and besides who cannot make room for them."""
    yield from teller.obstacles(found)
    if any(not each.occupant for each in found.obstacles):
        yield from teller.kept()
        yield from teller.refused()


def _outcome(
    asked: Asked,
    found: Plan | Infeasible,
    against: Sequence[Obstacle],
    left_out: Sequence[Obstacle],
) -> Outcome:
    if isinstance(found, Infeasible):
        nearest = found.nearest
        if asked.as_far and nearest is not None and nearest.moves and not against:
            return Outcome.PLAN
        return Outcome.INFEASIBLE if found.proven and not left_out else Outcome.UNKNOWN
    return Outcome.UNKNOWN if against else Outcome.PLAN


def _warnings(setting: Setting, asked: Asked) -> Iterator[str]:
    """Yield the nodes to be drained to which others may come meanwhile."""
    for node in asked.drain:
        view = setting.views.get(node)
        if view is not None and not view.cordoned:
            yield f"node {node} is not cordoned, and VMs may come to it: `kubectl cordon {node}`"


def _unknown(setting: Setting, asked: Asked) -> Iterator[Obstacle]:
    """Yield what is named and not there."""
    for named in asked.admit:
        if named not in setting.waiting:
            yield Obstacle("no pod without a place is known by that name", what="/".join(named))
    for node in asked.drain:
        if node not in setting.views:
            yield Obstacle("no GPU node is known by that name", what=node)
    known = {gpu.uuid for view in setting.views.values() for gpu in view.node.status.gpus}
    for uuid in asked.drain_gpus:
        if uuid not in known:
            yield Obstacle("no GPU is known by that UUID", what=uuid)


def _unplanned(setting: Setting, asked: Asked) -> Iterator[Obstacle]:
    """Yield the pods for which no plan is made, though there might be one."""
    for named in asked.admit:
        waiting = setting.waiting.get(named)
        if waiting is None:
            continue
        if waiting.request.gang is not None:
            yield Obstacle(OF_A_GANG, what="/".join(named))
        elif not waiting.filtered:
            yield Obstacle(NOT_FILTERED, what="/".join(named))
        elif len(waiting.request.wanted) > 1:
            why = "it asks for several vGPUs: `tangram explain` tells what would make room for it"
            yield Obstacle(why, what="/".join(named))


def _moved(there: Yard, found: Plan) -> tuple[Assignment, ...]:
    entries = (there.whose[move.occupant].entry for move in found.moves)
    known = {each.id: each for each in entries if each is not None and each.pod is not None}
    return tuple(known.values())
