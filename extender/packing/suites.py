"""VMs on several GPUs of one node: what they need there, and where they could have it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from extender.packing.bundles import Counts
from extender.packing.demand import Demand
from extender.packing.spread import Spread


class Need(NamedTuple):
    """How many of each item a VM needs on one node; ``distinct``: each on a GPU of its own."""

    items: Counts
    distinct: bool

    def shares(self) -> Iterator[Counts]:
        """Yield what one GPU may give it."""
        for share in itertools.product(*(range(count + 1) for count in self.items)):
            if sum(share) == 1 or (any(share) and not self.distinct):
                yield share


class Suite(NamedTuple):
    """GPUs of a node that some VMs could have together, and what each VM has on each GPU."""

    needs: tuple[int, ...]
    node: int
    gpus: tuple[tuple[int, tuple[Counts, ...]], ...]


class Needs:
    """What the VMs of a demand need that may lie on several GPUs of a node."""

    def __init__(self, demand: Demand) -> None:
        known: dict[Need, int] = {}
        kinds = range(len(demand.items))
        self.of: Mapping[int, int] = {
            at: known.setdefault(
                Need(
                    tuple(each.needs.get(item, 0) for item in kinds),
                    each.spread is Spread.DISTINCT,
                ),
                len(known),
            )
            for at, each in enumerate(demand.footprints)
            if not each.on_one_gpu
        }
        self.each: Sequence[Need] = tuple(known)
        self.vms = sum(
            len(demand.types[at].requests) for each in self.of for at in demand.types_of[each]
        )

    @cached_property
    def footprints(self) -> Sequence[Sequence[int]]:
        """The footprints with each need."""
        found: list[list[int]] = [[] for _ in self.each]
        for footprint, need in self.of.items():
            found[need].append(footprint)
        return found


def total(shares: Sequence[Counts]) -> Counts:
    """Return how many of each item some shares are together."""
    return tuple(map(sum, zip(*shares, strict=True)))
