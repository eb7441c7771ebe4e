"""Fleets of simulated GPUs whose occupancy has grown: filled by the policy, then thinned by chance.

Instances of a uniform mix arrive and are placed where the policy places them, one after the other,
until the fleet is a quarter fuller than wanted; then instances leave at random. What is left is
fragmented as by departures, in more states than filling alone would show.
"""

from __future__ import annotations

import random
from collections import defaultdict

import numpy as np

from extender.packing.problem import Fleet, GpuModel, GpuState
from extender.packing.tables import Option, Tables, tables
from extender.policy import PolicyName
from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Occupancy, Placement

GEOMETRY = MODELS["H100-80GB"].geometry
SERVES = {
    profile.name: profile.id for profile in GEOMETRY.profiles if not profile.name.endswith("+me")
}
"""The six profiles of the mix, as resources."""

_FULLEST = 0.98
_REFUSALS = 100  # in a row: the fleet is as full as it gets


Held = tuple[int, Placement]
"""A GPU instance: (profile id, placement)."""


def grown(gpus: int, *, fill: float, gpus_per_node: int, seed: int) -> Fleet:
    """Return a fleet of H100 with that share of its memory slices taken."""
    chance = random.Random(seed)
    table = tables(GEOMETRY, PolicyName.DEFAULT)
    model = GpuModel(table, SERVES)
    held = _thinned(_filled(gpus, fill, table, chance), gpus, fill, chance)
    states: dict[tuple[Held, ...], Occupancy] = {}
    known: dict[Occupancy, int] = {}
    state = []
    for instances in held:
        if instances not in states:
            states[instances] = table.holding(instances)
        state.append(known.setdefault(states[instances], len(known)))
    nodes = -(-gpus // gpus_per_node)
    return Fleet(
        nodes=[f"node-{index:06}" for index in range(nodes)],
        first=np.minimum(np.arange(nodes + 1) * gpus_per_node, gpus),
        uuids=[f"GPU-{index:07}" for index in range(gpus)],
        states=[GpuState(model, occupancy) for occupancy in known],
        state=np.array(state, dtype=np.int32),
    )


def _filled(gpus: int, fill: float, table: Tables, chance: random.Random) -> list[tuple[int, Held]]:
    """Return (GPU, instance) of instances that arrived one by one."""
    empty = table.holding(())
    best = {id: _ranking(table, empty, id) for id in SERVES.values()}
    by_state: dict[Occupancy, list[int]] = defaultdict(list)
    by_state[empty] = list(range(gpus))[::-1]
    chance.shuffle(by_state[empty])
    wanted = min(_FULLEST, fill + 0.25) * gpus * GEOMETRY.memory_slices
    placed = []
    taken = refused = 0
    while taken < wanted and refused < _REFUSALS:
        refused += 1
        profile_id = chance.choice(list(best))
        for state, option in best[profile_id]:
            if by_state[state]:
                gpu = by_state[state].pop()
                by_state[option.after].append(gpu)
                placed.append((gpu, (profile_id, option.placement)))
                taken += option.placement.size
                refused = 0
                break
    return placed


def _ranking(table: Tables, empty: Occupancy, profile_id: int) -> list[tuple[Occupancy, Option]]:
    """Return (state, best option there), in the order in which the policy takes them."""
    reached, front = {empty}, [empty]
    while front:
        state = front.pop()
        for id in SERVES.values():
            for option in table.options(state, GEOMETRY.by_id[id]):
                if option.after not in reached:
                    reached.add(option.after)
                    front.append(option.after)
    found = ((state, table.cheapest(profile_id)[state]) for state in sorted(reached))
    possible = [(state, option) for state, option in found if option is not None]
    return sorted(possible, key=lambda each: (each[1].cost, -table.precedence(each[0])))


def _thinned(
    placed: list[tuple[int, Held]], gpus: int, fill: float, chance: random.Random
) -> list[tuple[Held, ...]]:
    """Return what each GPU holds, in order, once instances have left at random."""
    held: list[list[Held]] = [[] for _ in range(gpus)]
    chance.shuffle(placed)
    taken = 0
    for gpu, instance in placed:
        if taken >= fill * gpus * GEOMETRY.memory_slices:
            break
        held[gpu].append(instance)
        taken += instance[1].size
    return [tuple(sorted(instances)) for instances in held]
