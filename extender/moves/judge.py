"""The judge of every plan: carries it out move by move, without a look at how it was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

from extender.moves.problem import Host, How, Occupant, Problem
from extender.moves.result import Gpu, Move, Place, Plan
from nodeagent.api.geometry import Placement


class Wrong(StrEnum):
    """What may be wrong with a plan."""

    UNKNOWN = "names a VM, a GPU or a request that is not there"
    IMMOVABLE = "moves what may not be moved"
    ELSEWHERE = "moves a VM from where it is not"
    NOT_SERVED = "puts a VM on a GPU that does not take it"
    ILLEGAL = "puts a VM where its profile may not sit, or something is"
    SAME_NODE = "migrates a VM to the node it is on"
    MISCOUNTED = "says another cost or kind of a move than it has"
    MISTOLD = "says another state before or after than there is"
    PLACED_TWICE = "places twice what is wanted once"
    UNPLACED = "leaves something that is wanted without a place"
    NOT_DRAINED = "puts or leaves something on a GPU that is to be drained"
    NOT_EMPTY = "leaves fewer GPUs or nodes empty than are to be"
    TOO_MANY = "has more moves than a plan may have"
    TOO_DEAR = "costs more than a plan may cost"
    BOUND = "says a bound that it is below"


class Fault(NamedTuple):
    """What is wrong, and about which VM, request or GPU."""

    wrong: Wrong
    about: str = ""


_On = dict[str, dict[str, Occupant]]
"""What is on each GPU by UUID, by id."""


def faults(problem: Problem, plan: Plan, *, attained: bool = True) -> Iterator[Fault]:
    """Yield everything that is wrong with a plan; whether all is *attained*, only if it should."""
    hosts = {host.uuid: host for host in problem.hosts}
    on: _On = {uuid: {each.id: each for each in host.occupants} for uuid, host in hosts.items()}
    yield from _mistold(plan.before, on)
    for move in plan.moves:
        yield from _move(problem, hosts, on, move)
    yield from _mistold(plan.after, on)
    yield from _places(problem, hosts, on, plan.places)
    if problem.most_moves is not None and len(plan.moves) > problem.most_moves:
        yield Fault(Wrong.TOO_MANY)
    cost = sum(each.cost for each in plan.moves)
    if problem.most_cost is not None and cost > problem.most_cost:
        yield Fault(Wrong.TOO_DEAR)
    if len(plan.moves) < plan.least_moves:
        yield Fault(Wrong.BOUND)
    if attained:
        yield from _unattained(problem, on, plan.places)


def _mistold(told: tuple[Gpu, ...], on: _On) -> Iterator[Fault]:
    for gpu in told:
        if {each.id: each for each in gpu.occupants} != on.get(gpu.uuid):
            yield Fault(Wrong.MISTOLD, gpu.uuid)


def _move(problem: Problem, hosts: Mapping[str, Host], on: _On, move: Move) -> Iterator[Fault]:
    """Judge a move, and make it where it can be made at all."""
    occupant = on.get(move.source, {}).get(move.occupant)
    if move.target not in hosts or move.source not in hosts:
        yield Fault(Wrong.UNKNOWN, move.occupant)
        return
    if occupant is None or occupant.placement != move.left:
        yield Fault(Wrong.ELSEWHERE, move.occupant)
        return
    leave = occupant.movable
    if leave is None or (leave.budget and problem.budgets.get(leave.budget, 0) < 1):
        yield Fault(Wrong.IMMOVABLE, move.occupant)
    elif (leave.how, leave.cost) != (move.how, move.cost):
        yield Fault(Wrong.MISCOUNTED, move.occupant)
    if move.how is How.LIVE and hosts[move.source].node == hosts[move.target].node:
        yield Fault(Wrong.SAME_NODE, move.occupant)
    target = hosts[move.target]
    profile_id = target.serves.get(occupant.kind)
    if not target.open or profile_id is None:
        yield Fault(Wrong.NOT_SERVED, move.occupant)
        return
    if target.uuid in problem.drained:
        yield Fault(Wrong.NOT_DRAINED, move.target)
    if not _fits(target, on[move.target], profile_id, move.placement):
        yield Fault(Wrong.ILLEGAL, move.occupant)
    del on[move.source][move.occupant]
    on[move.target][move.occupant] = Occupant(
        occupant.id, occupant.kind, profile_id, move.placement, leave, occupant.stays
    )


def _fits(host: Host, there: Mapping[str, Occupant], profile_id: int, at: Placement) -> bool:
    """Tell whether an instance may be made beside all that is there, by the geometry alone."""
    profile = host.tables.geometry.by_id.get(profile_id)
    if profile is None or at not in profile.placements:
        return False
    if any(each.placement.mask & at.mask for each in there.values()):
        return False
    alike = sum(each.profile_id == profile_id for each in there.values())
    return not profile.limited or alike < profile.max_instances


def _places(
    problem: Problem, hosts: Mapping[str, Host], on: _On, places: tuple[Place, ...]
) -> Iterator[Fault]:
    wanted = {each.id: each for each in problem.wanted}
    for id, many in Counter(each.wanted for each in places).items():
        if many > 1:
            yield Fault(Wrong.PLACED_TWICE, id)
    for number, place in enumerate(places):
        known, host = wanted.get(place.wanted), hosts.get(place.gpu)
        if known is None or host is None:
            yield Fault(Wrong.UNKNOWN, place.wanted)
            continue
        if not host.open or host.serves.get(known.kind) != place.profile_id:
            yield Fault(Wrong.NOT_SERVED, place.wanted)
        if not _fits(host, on[place.gpu], place.profile_id, place.placement):
            yield Fault(Wrong.ILLEGAL, place.wanted)
        there = Occupant(f"wanted/{number}", known.kind, place.profile_id, place.placement)
        on[place.gpu][there.id] = there


def _unattained(problem: Problem, on: _On, places: tuple[Place, ...]) -> Iterator[Fault]:
    placed = {each.wanted for each in places}
    for wanted in problem.wanted:
        if wanted.id not in placed:
            yield Fault(Wrong.UNPLACED, wanted.id)
    for uuid in sorted(problem.drained):
        if on.get(uuid):
            yield Fault(Wrong.NOT_DRAINED, uuid)
    nodes: dict[str, bool] = {}
    empty = 0
    for host in problem.hosts:
        counts = host.open and host.uuid not in problem.drained and not on[host.uuid]
        empty += counts
        nodes[host.node] = nodes.get(host.node, True) and counts
    if empty < problem.empty_gpus or sum(nodes.values()) < problem.empty_nodes:
        yield Fault(Wrong.NOT_EMPTY)
