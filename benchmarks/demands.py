"""What bursts of pods ask for: H100 profiles of a uniform mix, alone, in gangs, several per VM."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence

from benchmarks.fleets import GEOMETRY, SERVES
from extender.packing.problem import Request
from extender.packing.spread import Spread


def plain(count: int, chance: random.Random) -> Iterator[Request]:
    """Yield pods that want one vGPU of a uniform mix."""
    for index in range(count):
        yield Request(f"vm-{index:05}", (chance.choice(sorted(SERVES)),))


def prioritised(count: int, chance: random.Random) -> Iterator[Request]:
    """Yield the same with one of three priorities."""
    for index in range(count):
        wanted = chance.choice(sorted(SERVES))
        yield Request(f"vm-{index:05}", (wanted,), priority=chance.choice((0, 100, 1000)))


def ganged(count: int, chance: random.Random) -> Iterator[Request]:
    """Yield pods of which half are in gangs of 2 to 8 that want the same."""
    index = 0
    while index < count:
        size = chance.choice((2, 4, 8)) if chance.random() < 0.2 else 1
        wanted = chance.choice(sorted(SERVES))
        gang = f"gang-{index:05}" if size > 1 else None
        for _ in range(min(size, count - index)):
            yield Request(f"vm-{index:05}", (wanted,), gang=gang)
            index += 1


def several(count: int, chance: random.Random) -> Iterator[Request]:
    """Yield VMs of which a quarter want two or four vGPUs on one node, however spread."""
    for index in range(count):
        many = chance.choice((1, 1, 1, 1, 1, 1, 2, 4))
        wanted = chance.choice(sorted(SERVES))
        yield Request(f"vm-{index:05}", (wanted,) * (1 if wanted == "7g.80gb" else many))


DEMANDS: Mapping[str, Callable[[int, random.Random], Iterator[Request]]] = {
    "plain": plain,
    "priorities": prioritised,
    "gangs": ganged,
    "several vGPUs": several,
}


def pooled(
    names: Sequence[str], count: int, spreads: Sequence[Spread], chance: random.Random
) -> list[Request]:
    """Return requests with node restrictions, gangs, priorities, and several vGPUs per VM.

    8 pools of nodes; a request may go to all, to one pool or to two. A tenth of the draws is a gang
    of 2, 4 or 8; a fifth of the VMs has two vGPUs or four, spread in one of the given ways.
    """
    pools = [frozenset(names[index::8]) for index in range(8)]
    sets = [None, *pools, *(a | b for a, b in itertools.pairwise(pools))]
    wanted: list[Request] = []
    while len(wanted) < count:
        spread = chance.choice(spreads)
        many = chance.choice((1, 1, 1, 1, 1, 1, 1, 1, 2, 4))
        fitting = [n for n in sorted(SERVES) if many == 1 or n not in ("7g.80gb", "4g.40gb")]
        name = chance.choice(fitting)
        if spread is Spread.SAME and many * GEOMETRY.by_id[SERVES[name]].size > 6:
            many = 2
        members = chance.choice((2, 4, 8)) if chance.random() < 0.1 else 1
        nodes, priority = chance.choice(sets), chance.choice((0, 0, 100))
        gang = f"gang-{len(wanted)}" if members > 1 else None
        for _ in range(members):
            wanted.append(
                Request(
                    f"vm-{len(wanted):05}",
                    (name,) * many,
                    priority=priority,
                    gang=gang,
                    spread=spread,
                    nodes=nodes,
                )
            )
    return wanted
