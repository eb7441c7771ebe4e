"""Several instances on the GPUs of one node: the cheapest arrangement, exactly.

GPU after GPU, by dynamic programming over what has been placed so far::

    least[d] = the least cost of placing d on the GPUs so far
    least'[d] = min over what one more GPU can take, t <= d, of least[d - t] + cost of t there

*d* and *t* are counts of each different thing that is asked for; *t* is all that is asked where it
must share a GPU, and a single thing where each needs a GPU of its own. The work is bounded by
(GPUs) x (what a GPU can take) x (sub-multisets of what is asked), however hard the instance is.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from extender.packing.spread import Spread
from extender.packing.tables import Tables
from nodeagent.api.geometry import Occupancy, Placement

Counts = tuple[int, ...]
"""How many of each kind of instance."""


class Kind(NamedTuple):
    """GPUs that are the same here: ``profiles`` has for each thing asked for the id, or None."""

    tables: Tables
    occupancy: Occupancy
    profiles: tuple[int | None, ...]


class Load(NamedTuple):
    """What one GPU takes: ``parts`` are (index of what is asked for, placement), in order."""

    cost: int
    parts: tuple[tuple[int, Placement], ...]


class Arrangement(NamedTuple):
    """The least cost and tie, and what each GPU takes, in the order of the GPUs given."""

    cost: int
    tie: int
    loads: tuple[tuple[tuple[int, Placement], ...], ...]


_TIES = 1 << 20
"""Ties are a level below costs: at most 64 instances on GPUs of at most 64 slices."""

_NEVER = np.int64(1) << 61
"""More than any sum of costs, and small enough to be added to another one."""


@functools.lru_cache(maxsize=4096)
def arrangement(
    kinds: tuple[Kind, ...], asked: Counts, spread: Spread = Spread.ANY
) -> Arrangement | None:
    """Place *asked* on GPUs of these *kinds* at the least cost; None if it cannot be placed.

    Ties go by precedence, then to the first ones. Nodes whose GPUs are the same share the answer.
    """
    options = [_options(kind, asked, spread) for kind in kinds]
    shape = tuple(count + 1 for count in asked)
    strides = _strides(shape)
    least = np.full(int(np.prod(shape)), _NEVER)
    least[0] = 0
    after = [least]  # by GPU, the last first: so that the way back meets the first GPU first
    for loads in reversed(options):
        grown = least.copy()
        for taken, (cost, _) in loads.items():
            shift = _offset(taken, strides)
            candidates = least[:-shift] + cost
            candidates[_overflowing(shape, taken)[:-shift]] = _NEVER
            np.minimum(grown[shift:], candidates, out=grown[shift:])
        least = grown
        after.append(least)
    total = int(least[-1])
    if total >= _NEVER // 2:
        return None
    cost = 0
    chosen = []
    left = asked
    for loads, now, before in zip(options, reversed(after[1:]), reversed(after[:-1]), strict=True):
        taken = _taken(loads, now, before, left, strides)
        worth, parts = loads.get(taken, Load(0, ()))
        cost += worth
        chosen.append(parts)
        left = tuple(map(int.__sub__, left, taken))
    return Arrangement(*_split(cost), tuple(chosen))


def _taken(
    loads: Mapping[Counts, Load],
    now: NDArray[np.int64],
    before: NDArray[np.int64],
    left: Counts,
    strides: Counts,
) -> Counts:
    """Return what a GPU takes of what is *left* for it and those after it: as much as may be."""
    at = _offset(left, strides)
    for taken in sorted(loads, reverse=True):
        if all(map(int.__le__, taken, left)):
            rest = at - _offset(taken, strides)
            if before[rest] + loads[taken].cost == now[at]:
                return taken
    return (0,) * len(left)


def _options(kind: Kind, asked: Counts, spread: Spread) -> Mapping[Counts, Load]:
    """Return what a GPU may take of *asked*, each with its cost and tie as one number."""
    ahead = kind.tables.precedence(kind.occupancy)
    return {
        taken: Load(load.cost * _TIES - ahead * sum(taken), load.parts)
        for taken, load in _loads(*kind, asked).items()
        if spread is Spread.ANY
        or (spread is Spread.SAME and taken == asked)
        or (spread is Spread.DISTINCT and sum(taken) == 1)
    }


def _split(total: int) -> tuple[int, int]:
    """Return cost and tie; a tie is at most 0."""
    cost = -(-total // _TIES)
    return cost, total - cost * _TIES


@functools.lru_cache(maxsize=1 << 14)
def _loads(
    tables: Tables, occupancy: Occupancy, profiles: tuple[int | None, ...], asked: Counts
) -> Mapping[Counts, Load]:
    """Return every part of *asked* that fits on a GPU beside *occupancy*, as cheap as can be.

    What is asked for is placed in the order of its index, for policies whose costs depend on it.
    """
    found: dict[Counts, Load] = {}
    reached: dict[Counts, dict[Occupancy, Load]] = {
        (0,) * len(asked): {occupancy: Load(0, ())},
    }
    for index, profile_id in enumerate(profiles):
        if profile_id is None:
            continue
        profile = tables.geometry.by_id.get(profile_id)
        if profile is None:
            continue
        frontier = reached
        reached = dict(reached)
        for _ in range(asked[index]):
            grown: dict[Counts, dict[Occupancy, Load]] = {}
            for taken, ends in frontier.items():
                further: dict[Occupancy, Load] = {}
                for now, load in ends.items():
                    for option in tables.options(now, profile):
                        known = further.get(option.after)
                        cost = load.cost + option.cost
                        if known is None or cost < known.cost:
                            parts = (*load.parts, (index, option.placement))
                            further[option.after] = Load(cost, parts)
                if further:
                    grown[(*taken[:index], taken[index] + 1, *taken[index + 1 :])] = further
            if not grown:
                break
            reached |= grown
            frontier = grown
    for taken, ends in reached.items():
        if any(taken):
            found[taken] = min(ends.values(), key=lambda load: load.cost)
    return found


@functools.lru_cache(maxsize=1 << 12)
def _overflowing(shape: Counts, taken: Counts) -> NDArray[np.bool_]:
    """Return where adding *taken* would leave the shape in some dimension."""
    over = np.ones(shape, dtype=np.bool_)
    over[tuple(slice(0, size - count) for size, count in zip(shape, taken, strict=True))] = False
    return over.ravel()


def _strides(shape: Sequence[int]) -> Counts:
    return tuple(_running(shape))[::-1]


def _running(shape: Sequence[int]) -> Iterator[int]:
    stride = 1
    for size in reversed(shape):
        yield stride
        stride *= size


def _offset(taken: Counts, strides: Counts) -> int:
    return sum(map(int.__mul__, taken, strides))
