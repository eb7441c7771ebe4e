"""How long plans of moves take on large clusters, and how far from optimal they are known to be.

The clusters are those a simulation of a uniform mix ends with, placed as kube-scheduler places
without anybody who knows of slices (so is a cluster that Tangram comes to), or at random, which
leaves the most different GPUs; a tenth of all VMs are not to be moved, and of the others each has
one of the ages that cost differently by the usual policy. Each row plans up to fifty things at
once, in one plan.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from extender.moves import (
    Consolidate,
    Drain,
    Goal,
    Headroom,
    Host,
    How,
    Infeasible,
    Movable,
    Occupant,
    Plan,
    Problem,
    plan,
)
from extender.packing.choose import Bin
from extender.packing.headroom import room
from extender.packing.tables import tables
from extender.policy import PolicyName
from extender.policy.costs import Costs
from extender.simulation.contenders import contender
from extender.simulation.replay import NOWHERE, replay
from extender.simulation.scenario import Scenario, stage

Row = dict[str, Any]


class Cluster(NamedTuple):
    """So many GPUs, at a load, placed by a policy or a contender."""

    gpus: int
    load: float
    placed_by: str


CLUSTERS = (
    Cluster(100, 0.6, "kubernetes-default"),
    Cluster(1_000, 0.6, "kubernetes-default"),
    Cluster(4_000, 0.6, "kubernetes-default"),
    Cluster(1_000, 0.75, "random"),
)
GPUS_PER_NODE = 8
AT_ONCE = 50
"""Goals: placements, GPUs emptied, GPUs drained."""

COSTS = Costs()
ADDED = (0, *(age.adds for age in COSTS.ages))
STAYING = 0.1
SECONDS = 30.0
"""For the solver: far more than it should need, so that what is measured is what it needs."""

MIX, MODEL = "uniform", "H100-80GB"


def settled(cluster: Cluster, *, seed: int) -> list[Host]:
    """Return the GPUs of a cluster as they are at the end of a simulation."""
    gpus, load, placed_by = cluster
    played = stage(Scenario(model=MODEL, gpus=gpus, mix=MIX, load=load, arrivals=25 * gpus))
    policy = contender(placed_by, played.observed)
    board = policy.board(played.fleet, played.kinds)
    demand = played.demand(seed)
    history = replay(board, policy.picker(board, seed), demand)
    chance, end = random.Random(seed), demand.times[-1]
    of = tables(played.fleet.groups[0].geometry, PolicyName.DEFAULT)
    occupants: list[list[Occupant]] = [[] for _ in range(gpus)]
    for number, (gpu, slot) in enumerate(zip(history.gpu, history.slot, strict=True)):
        if gpu == NOWHERE or history.placed_at[number] + demand.lifetimes[number] <= end:
            continue
        _, profile_id, placement = board.slots[slot]
        cost = COSTS.eviction * placement.size + chance.choice(ADDED)
        leave = Movable(How.EVICTION, cost) if chance.random() >= STAYING else None
        kind = played.kinds[demand.kinds[number]].name
        occupants[gpu].append(Occupant(f"vm-{number}", kind, profile_id, placement, leave))
    serves = {kind.name: p.id for kind in played.kinds if (p := kind.profiles[0]) is not None}
    return [
        Host(
            f"GPU-{at}",
            f"node-{at // GPUS_PER_NODE}",
            of,
            serves,
            tuple(sorted(there, key=lambda each: each.placement)),
        )
        for at, there in enumerate(occupants)
    ]


def goals(hosts: list[Host]) -> dict[str, Goal]:
    """Return what is asked for, each beyond what there is as it is."""
    bins = [Bin(h.uuid, h.tables, h.state(), h.serves) for h in hosts]
    empty = sum(not host.occupants for host in hosts)
    many = min(AT_ONCE, len(hosts) // 20)
    gpus = random.Random(1).sample([host.uuid for host in hosts], many)
    held = {host.uuid: host for host in hosts}
    free = [uuid for uuid in gpus if all(each.movable for each in held[uuid].occupants)]
    return {
        f"{many} more whole GPUs": Headroom("7g.80gb", room(bins, "7g.80gb") + many),
        f"{many} more 4g.40gb": Headroom("4g.40gb", room(bins, "4g.40gb") + many),
        f"{many} more empty GPUs": Consolidate(gpus=empty + many),
        "3 empty nodes": Consolidate(nodes=3),
        f"drain {len(free)} GPUs": Drain(frozenset(free)),
    }


def measured(*, quick: bool, progress: Callable[[str], None]) -> list[Row]:
    """Return a row for each size and goal."""
    rows = []
    for cluster in CLUSTERS[:1] if quick else CLUSTERS:
        gpus = cluster.gpus
        progress(f"a cluster of {gpus} GPUs, placed by {cluster.placed_by}")
        hosts = settled(cluster, seed=5000)
        used = sum(each.placement.size for host in hosts for each in host.occupants)
        for name, goal in goals(hosts).items():
            progress(name)
            started = time.perf_counter()
            found = plan(Problem(hosts, (goal,)), seconds=SECONDS, clock=time.perf_counter)
            row = {
                "gpus": gpus,
                "placed_by": cluster.placed_by,
                "used": round(used / (8 * gpus), 3),
                "vms": sum(len(host.occupants) for host in hosts),
                "goal": name,
                "seconds": round(time.perf_counter() - started, 2),
            }
            rows.append(row | _found(found))
    return rows


def _found(found: Plan | Infeasible) -> Row:
    best = found if isinstance(found, Plan) else found.nearest
    return {
        "attained": found.attained if isinstance(found, Infeasible) else None,
        "moves": None if best is None else len(best.moves),
        "cost": None if best is None else best.cost,
        "least_moves": None if best is None else best.least_moves,
        "least_cost": None if best is None else best.least_cost,
        "proven": found.optimal if isinstance(found, Plan) else found.proven,
    }


def table(rows: list[Row]) -> str:
    """Return the rows as a Markdown table."""
    heads = "| GPUs | placed by | VMs | goal | attained | s | moves | bound | cost | bound |"
    lines = [heads, "|" + "---|" * 10]
    for row in rows:
        cells = (
            *(row[key] for key in ("gpus", "placed_by", "vms", "goal")),
            "all" if row["attained"] is None else row["attained"],
            *(row[key] for key in ("seconds", "moves", "least_moves", "cost", "least_cost")),
        )
        lines.append("| " + " | ".join("" if each is None else f"{each}" for each in cells) + " |")
    return "\n".join(lines)
