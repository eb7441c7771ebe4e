"""Whose moves would make room for a pod, found by the fewest and checked before they are told of.

The search knows GPUs and who may be where; the rules of the policy about sharing and headroom
change with every move. So what was found is carried out on the views and judged as filter would
judge it; what the rules do not let pass is not told of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from extender.explain.board import NODES_TRIED, Board, Mover, Where, board, wanted_there
from extender.explain.census import Census
from extender.explain.explanation import Means, Move, Moves, NoMoves, Spot
from extender.explain.situation import PodState, Situation
from extender.explain.trial import Plan, passes
from extender.packing.relocation import Host, Occupant
from extender.packing.relocation import Move as Step
from extender.packing.room import WANTED, NoRoom, Room, make_room
from extender.snapshot import NodeView
from extender.verbs.verdicts import Code, Refused
from nodeagent.api.geometry import Placement

VMI = "VirtualMachineInstance"

MOST_MOVES = 3
MOST_LOOKS = 4_000
"""Windows and places looked at in all: a tenth of a second on an otherwise idle core (measured)."""

BETTER_LOOKS = 400
"""Of them, after a first plan, for one that takes as few moves and leaves more."""


def making_room(
    situation: Situation, census: Census, *, most_looks: int = MOST_LOOKS
) -> tuple[Moves | NoMoves, Board]:
    """Return what moves would make the pod fit, and the board they were looked for on."""
    there = board(situation, census)
    complete = there.whole and _unchanging(situation, census)
    wanted = situation.request.wanted
    if len(wanted) == 1:
        found = make_room(
            there.hosts,
            wanted_there(wanted[0]),
            most_moves=MOST_MOVES,
            most_looks=most_looks,
            most_better=BETTER_LOOKS,
        )
        if isinstance(found, NoRoom):
            return NoMoves(MOST_MOVES, found.proven and complete), there
        places = ((wanted[0], found.gpu, _occupant(there.hosts, wanted[0], found)),)
        plan: Plan | None = Plan(found.moves, places)
        fewest = complete
    else:
        plan = next(_for_several(situation, census, there, most_looks), None)
        fewest = False  # one vGPU after the other: another order may take fewer
    if plan is None or not passes(situation, there, plan):
        return NoMoves(MOST_MOVES, proven=False), there
    return _told(situation.pods, there, plan, fewest=fewest), there


def _unchanging(situation: Situation, census: Census) -> bool:
    """Tell whether the rules shut nothing now that moves could open: then the search sees all.

    Who shares with whom may change with every move; and a node whose room is headroom that is kept
    is not searched, though moves may make headroom elsewhere.
    """
    bounds = situation.request.bounds
    if bounds is None:
        return True
    kept = any(
        isinstance(each.verdict, Refused) and each.verdict.code is Code.HEADROOM
        for each in census.nodes
    )
    return not kept and not bounds.terms.isolating


def _for_several(
    situation: Situation, census: Census, there: Board, most_looks: int
) -> Iterator[Plan]:
    """Yield plans for a VM with several vGPUs, each on one node, vGPU after vGPU."""
    elsewhere = _without_wanted(situation, there.hosts)
    for view in census.emptiest(NODES_TRIED):
        hosts = [
            own if at.view is view else other
            for own, other, at in zip(there.hosts, elsewhere, there.where, strict=True)
        ]
        found = _one_by_one(situation.request.wanted, hosts, most_looks // NODES_TRIED)
        if found is not None:
            yield found


def _without_wanted(situation: Situation, hosts: Sequence[Host]) -> Sequence[Host]:
    """Return hosts to which others may move, and the pod may not."""
    names = {wanted_there(each) for each in situation.request.wanted}
    serves: dict[int, Mapping[str, int]] = {}  # one for all that share one: such are alike
    for host in hosts:
        if id(host.serves) not in serves:
            others = {name: each for name, each in host.serves.items() if name not in names}
            serves[id(host.serves)] = others
    return [msgspec.structs.replace(host, serves=serves[id(host.serves)]) for host in hosts]


def _one_by_one(wanted: Sequence[str], hosts: list[Host], most_looks: int) -> Plan | None:
    steps: tuple[Step, ...] = ()
    places: list[tuple[str, int, Occupant]] = []
    for resource in sorted(wanted, key=lambda each: -_size(hosts, wanted_there(each))):
        found = make_room(
            hosts,
            wanted_there(resource),
            most_moves=MOST_MOVES - len(steps),
            most_looks=most_looks // len(wanted),
            most_better=BETTER_LOOKS,
        )
        if isinstance(found, NoRoom):
            return None
        occupant = _occupant(hosts, resource, found)._replace(id=f"{WANTED}{len(places)}")
        for step in found.moves:
            _carry_out(hosts, step)
        _put(hosts, found.gpu, occupant)
        steps += found.moves
        places.append((resource, found.gpu, occupant))
    return Plan(steps, tuple(places))


def _size(hosts: Sequence[Host], name: str) -> int:
    for host in hosts:
        if name in host.serves:
            return host.tables.geometry.by_id[host.serves[name]].size
    return 0


def _occupant(hosts: Sequence[Host], resource: str, found: Room) -> Occupant:
    profile_id = hosts[found.gpu].serves[wanted_there(resource)]
    return Occupant(WANTED, "", profile_id, found.placement, movable=False)


def _carry_out(hosts: list[Host], step: Step) -> None:
    occupant = next(each for each in hosts[step.source].occupants if each.id == step.occupant)
    left = tuple(each for each in hosts[step.source].occupants if each is not occupant)
    hosts[step.source] = msgspec.structs.replace(hosts[step.source], occupants=left)
    # Who has moved does not move again: each VM moves once.
    _put(hosts, step.target, occupant._replace(placement=step.placement, movable=False))


def _put(hosts: list[Host], at: int, occupant: Occupant) -> None:
    on = tuple(sorted((*hosts[at].occupants, occupant), key=lambda each: each.placement))
    hosts[at] = msgspec.structs.replace(hosts[at], occupants=on)


def _told(pods: Mapping[str, PodState], there: Board, plan: Plan, *, fewest: bool) -> Moves:
    """Return a plan as people know GPUs and VMs."""
    moves: list[Move] = []
    now: dict[str, Spot] = {}
    for step in plan.moves:
        mover = there.movers[step.occupant]
        entry = mover.entry
        source = now.get(step.occupant) or spot(mover.view, entry.gpu, entry.placement)
        target = _at(there.where[step.target], step.placement)
        assert entry.pod is not None  # or it would stay
        moves.append(_move(mover, pods[entry.pod.uid], source, target))
        now[step.occupant] = target
    on = tuple(_at(there.where[gpu], occupant.placement) for _, gpu, occupant in plan.places)
    return Moves(tuple(moves), on, fewest)


def _at(where: Where, place: Placement) -> Spot:
    return Spot(where.view.name, where.number, where.uuid, place.start, place.size)


def _move(mover: Mover, pod: PodState, source: Spot, target: Spot) -> Move:
    entry = mover.entry
    assert entry.pod is not None  # or it would stay
    kind, name = ("Pod", entry.pod.name)
    if entry.owner is not None:
        kind, name = entry.owner.kind, entry.owner.name
    profile = mover.view.profile_named(entry.gpu, entry.profile_id)
    means = Means.RESTART if kind == VMI else Means.RECREATION
    return Move(
        entry.pod.namespace,
        kind,
        name,
        profile,
        source,
        target,
        means,
        pod.priority,
        pod.evictable,
    )


def spot(view: NodeView, uuid: str, place: Placement) -> Spot:
    """Return slices on a GPU by the GPU's index; -1 for one that is gone."""
    gpus = [gpu.uuid for gpu in view.node.status.gpus]
    return Spot(view.name, gpus.index(uuid) if uuid in gpus else -1, uuid, place.start, place.size)
