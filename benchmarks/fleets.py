"""Fleets of simulated GPUs whose occupancy has grown: filled by the policy, then thinned by chance.

Instances of a uniform mix arrive and are placed where the policy costs least, the fuller GPU first,
until the fleet is a quarter fuller than wanted; then instances leave at random. What is left is
fragmented as by departures, in more states than filling alone would show.
"""

from __future__ import annotations

import random
from collections import defaultdict

import numpy as np

from extender.packing.problem import Fleet, GpuModel, GpuState
from extender.packing.tables import Tables, tables
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


def grown(gpus: int, *, fill: float, gpus_per_node: int, seed: int) -> Fleet:
    """Return a fleet of H100 with that share of its memory slices taken."""
    chance = random.Random(seed)
    table = tables(GEOMETRY, PolicyName.DEFAULT)
    model = GpuModel(table, SERVES)
    occupancies = _thinned(_filled(gpus, fill, table, chance), gpus, fill, chance)
    known: dict[Occupancy, int] = {}
    state = [known.setdefault(occupancy, len(known)) for occupancy in occupancies]
    nodes = -(-gpus // gpus_per_node)
    return Fleet(
        nodes=[f"node-{index:06}" for index in range(nodes)],
        first=np.minimum(np.arange(nodes + 1) * gpus_per_node, gpus),
        uuids=[f"GPU-{index:07}" for index in range(gpus)],
        states=[GpuState(model, occupancy) for occupancy in known],
        state=np.array(state, dtype=np.int32),
    )


def _filled(
    gpus: int, fill: float, table: Tables, chance: random.Random
) -> list[tuple[int, Placement]]:
    """Return (GPU, placement) of instances that arrived one by one."""
    profiles = [GEOMETRY.by_id[id] for id in SERVES.values()]
    best = {profile.id: _ranking(table, profile.id) for profile in profiles}
    by_occupancy: dict[Occupancy, list[int]] = defaultdict(list)
    by_occupancy[GEOMETRY.empty] = list(range(gpus))[::-1]
    chance.shuffle(by_occupancy[GEOMETRY.empty])
    wanted = min(_FULLEST, fill + 0.25) * gpus * GEOMETRY.memory_slices
    placed = []
    taken = refused = 0
    while taken < wanted and refused < _REFUSALS:
        refused += 1
        profile = chance.choice(profiles)
        for occupancy, placement, after in best[profile.id]:
            if by_occupancy[occupancy]:
                gpu = by_occupancy[occupancy].pop()
                by_occupancy[after].append(gpu)
                placed.append((gpu, placement))
                taken += placement.size
                refused = 0
                break
    return placed


def _ranking(table: Tables, profile_id: int) -> list[tuple[Occupancy, Placement, Occupancy]]:
    """Return (occupancy, best placement, occupancy after), in the order in which they are used."""
    reached, front = {GEOMETRY.empty}, [GEOMETRY.empty]
    while front:
        occupancy = front.pop()
        for id in SERVES.values():
            for option in table.options(occupancy, GEOMETRY.by_id[id]):
                if option.after not in reached:
                    reached.add(option.after)
                    front.append(option.after)
    ranked = []
    for occupancy in sorted(reached):
        for option in table.options(occupancy, GEOMETRY.by_id[profile_id])[:1]:
            key = (option.cost, -occupancy.mask.bit_count())
            ranked.append((key, (occupancy, option.placement, option.after)))
    return [each for _, each in sorted(ranked, key=lambda pair: pair[0])]


def _thinned(
    placed: list[tuple[int, Placement]], gpus: int, fill: float, chance: random.Random
) -> list[Occupancy]:
    """Return what each GPU holds once instances have left at random."""
    masks = [0] * gpus
    chance.shuffle(placed)
    taken = 0
    for gpu, placement in placed:
        if taken >= fill * gpus * GEOMETRY.memory_slices:
            break
        masks[gpu] |= placement.mask
        taken += placement.size
    return [Occupancy(mask, GEOMETRY.empty.counts) for mask in masks]
