"""Every state that a few moves of VMs lead to, found by trying all of them: for small clusters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

from nodeagent.api.geometry import Placement
from tests.builders import H100


class Occupant(NamedTuple):
    """A GPU instance of a VM, and whose; equal ones stand for each other."""

    profile_id: int
    start: int
    movable: bool
    whose: str = ""


class Gpu(NamedTuple):
    """What is on a GPU, in order; ``where`` is what tells it from others with the same on it."""

    occupants: tuple[Occupant, ...]
    where: str = ""


State = tuple[Gpu, ...]
"""All GPUs, in order: equal states stand for each other."""

MayGo = Callable[[Occupant, Gpu], bool]


def anywhere(occupant: Occupant, gpu: Gpu) -> bool:
    """Let every VM go to every GPU."""
    return True


def reachable(gpus: State, *, moves: int, may_go: MayGo = anywhere) -> Iterator[State]:
    """Yield each state that at most so many moves lead to, this one first."""
    first = tuple(sorted(gpus))
    yield first
    seen, frontier = {first}, [first]
    for _ in range(moves):
        after = (then for now in frontier for then in _after_one_move(now, may_go))
        frontier = list(dict.fromkeys(then for then in after if then not in seen))
        seen.update(frontier)
        yield from frontier


def _after_one_move(gpus: State, may_go: MayGo) -> Iterator[State]:
    for at, source in enumerate(gpus):
        for mover in source.occupants:
            if not mover.movable:
                continue
            left = Gpu(tuple(each for each in source.occupants if each is not mover), source.where)
            for to, target in enumerate(gpus):
                if not may_go(mover, target):
                    continue
                beside = left if to == at else target
                # Its own slices are not free while it goes.
                for start in starts(target.occupants, mover.profile_id):
                    there = sorted((*beside.occupants, mover._replace(start=start)))
                    others = [gpu for k, gpu in enumerate(gpus) if k not in (at, to)]
                    others += [] if to == at else [left]
                    yield tuple(sorted((*others, beside._replace(occupants=tuple(there)))))


@cache
def starts(occupants: tuple[Occupant, ...], profile_id: int) -> tuple[int, ...]:
    """Return where a profile may be created beside what is on a GPU, by overlap alone."""
    profile = H100.geometry.by_id[profile_id]
    taken = 0
    for each in occupants:
        taken |= Placement(each.start, H100.geometry.by_id[each.profile_id].size).mask
    if profile.limited and sum(each.profile_id == profile_id for each in occupants) >= (
        profile.max_instances
    ):
        return ()
    return tuple(p.start for p in profile.placements if not p.mask & taken)
