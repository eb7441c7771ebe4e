"""What it costs a node's GPUs, at given prices, to give VMs what they need: all nodes at once.

At given prices of the model's rows, a GPU loses something by giving *parts*, some items of VMs on
several GPUs, instead of receiving the bundle that is best for it. What VMs lose on a node at least
is found by dynamic programming over its GPUs. Everything is in integers.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from extender.packing.bundles import Counts
from extender.packing.classes import Condensed
from extender.packing.suites import Need, Needs, Suite, total

NEVER = 1 << 58
"""More than anything loses, and small enough to be added to another one."""

_MOST_WORK = 1 << 28
"""Elementary steps for all nodes; beyond it, pricing takes longer than a second."""

_MOST_ENDS = 1 << 8
"""Things that some VMs can have; beyond it, steps between them are too many to list."""


class Scarce(NamedTuple):
    """GPUs with a price of their own, whatever they give: (places on nodes, nodes), and prices."""

    places: NDArray[np.int64]
    nodes: NDArray[np.int64]
    prices: NDArray[np.int64]


class Steps(NamedTuple):
    """What a GPU may do for some VMs: from what they have (index) to what they then have.

    ``parts`` is the index of all it gives, ``ways`` an index into ``shares``: what it gives to each
    VM. ``ends`` is how many things they can have, the last being all they need. The steps ascend by
    ``after``.
    """

    before: NDArray[np.int64]
    after: NDArray[np.int64]
    parts: NDArray[np.int64]
    ways: NDArray[np.int64]
    shares: Sequence[tuple[Counts, ...]]
    ends: int


class Pricing:
    """The nodes of a condensed problem as arrays."""

    def __init__(self, condensed: Condensed, needs: Needs) -> None:
        self.needs = needs.each
        fleet, classes = condensed.problem.fleet, condensed.classes
        self._first = fleet.first
        self._offered: dict[tuple[Counts, ...], list[int]] = {}
        for index, each in enumerate(classes):
            self._offered.setdefault(tuple(items for items, _ in each.offers), []).append(index)
        useful = tuple(any(each) for each in zip(*(need.items for need in needs.each), strict=True))
        self._parts = {bundles: parts_of(bundles, useful) for bundles in self._offered}
        self.parts = {
            part: at
            for at, part in enumerate(
                sorted(set(itertools.chain.from_iterable(self._parts.values())))
            )
        }
        """An index for everything that a GPU can give."""
        self._key = tuple(self.parts)
        groups = int(condensed.group.max(initial=-1)) + 1
        table = np.full((groups, len(fleet.states)), len(classes))
        for (group, state), index in condensed.class_of.items():
            table[group, state] = index
        width = int(np.diff(fleet.first).max(initial=0))
        gpus = fleet.first[:-1] + np.arange(width)[:, None]
        beyond = gpus >= fleet.first[1:]
        states = fleet.state[np.where(beyond, 0, gpus)]
        self.classes = np.where(beyond, len(classes), table[condensed.group, states])
        """The class of each GPU, (places on a node, nodes); one too high for those in none."""

    @property
    def possible(self) -> bool:
        """Whether all nodes can be looked at in reasonable time."""
        each = [self.steps((need,)) for need in range(len(self.needs))]
        steps = sum(len(known.parts) for known in each if known is not None)
        return None not in each and steps * self.classes.size <= _MOST_WORK

    def losses(self, left: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        """Return what a GPU of each class loses by giving parts: (parts, classes + 1).

        ``left``, by class: what the prices leave of the gain of each bundle, nowhere above 0.
        """
        lost = np.full((len(self.parts), len(left) + 1), NEVER)
        for bundles, classes in self._offered.items():
            parts = self._parts[bundles]
            if not parts:
                continue
            each = -np.stack([left[index] for index in classes])
            containing, starts = _containing(bundles, parts)
            rows = np.array([self.parts[part] for part in parts])
            lost[rows[:, None], classes] = np.minimum.reduceat(
                each[:, containing], starts, axis=1
            ).T
        return lost

    def table(
        self,
        lost: NDArray[np.int64],
        scarce: Scarce,
        parts: NDArray[np.int64],
        nodes: NDArray[np.int64] | None = None,
    ) -> NDArray[np.int64]:
        """Return what each GPU loses by giving *parts* and nothing else: (parts, places, nodes)."""
        classes = self.classes if nodes is None else self.classes[:, nodes]
        found = np.take(lost[parts], classes, axis=1)
        if nodes is None:
            found[:, scarce.places, scarce.nodes] += scarce.prices
        else:
            column = np.full(self.classes.shape[1], -1)
            column[nodes] = np.arange(len(nodes))
            here = column[scarce.nodes] >= 0
            found[:, scarce.places[here], column[scarce.nodes[here]]] += scarce.prices[here]
        return found

    def steps(self, needs: tuple[int, ...]) -> Steps | None:
        """Return the steps to what some VMs need, or None if they are too many."""
        return _steps(tuple(self.needs[need] for need in needs), self._key)

    def beside(self, part: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the parts that are a part and something else, and what else that is."""
        return _beside(self._key, part)

    def suites(
        self,
        needs: tuple[int, ...],
        nodes: NDArray[np.int64],
        lost: NDArray[np.int64],
        scarce: Scarce,
    ) -> list[Suite]:
        """Return the best suite for some VMs on each of the nodes that have room for them."""
        steps = self.steps(needs)
        if steps is None:
            return []
        parts, rows = np.unique(steps.parts, return_inverse=True)
        table = self.table(lost, scarce, parts, nodes)
        best = np.full((steps.ends, len(nodes)), NEVER)
        best[0] = 0
        taken = np.full((table.shape[1], steps.ends, len(nodes)), -1)
        for place in range(table.shape[1]):
            before = best.copy()
            for at, (start, end) in enumerate(
                zip(steps.before.tolist(), steps.after.tolist(), strict=True)
            ):
                loss = before[start] + table[rows[at], place]
                better = loss < best[end]
                best[end][better] = loss[better]
                taken[place, end][better] = at
        which = np.flatnonzero(best[-1] < NEVER)
        has = np.full(len(which), steps.ends - 1)
        given = np.full((table.shape[1], len(which)), -1)
        for place in reversed(range(table.shape[1])):
            given[place] = taken[place, has, which]
            has = np.where(given[place] >= 0, steps.before[given[place]], has)
        chosen, ways = nodes[which], steps.ways.tolist()
        return [
            Suite(
                needs,
                node,
                tuple(
                    (first + place, steps.shares[ways[step]])
                    for place, step in enumerate(way)
                    if step >= 0
                ),
            )
            for node, first, way in zip(
                chosen.tolist(), self._first[chosen].tolist(), given.T.tolist(), strict=True
            )
        ]


def cheapest(steps: Steps, table: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return what VMs lose at least on each node; NEVER where they have no room.

    ``table[rows[s]]`` has what step ``s`` loses: (places, nodes). For few steps and many nodes.
    """
    best = np.full((steps.ends, table.shape[2]), NEVER)
    best[0] = 0
    # What a step begins with has a lower index than what it ends with: each GPU does one step.
    ways = list(zip(steps.before.tolist(), steps.after.tolist(), rows.tolist(), strict=True))[::-1]
    for place in range(table.shape[1]):
        for before, after, row in ways:
            np.minimum(best[after], best[before] + table[row, place], out=best[after])
    return np.asarray(best[-1])


def cheapest_of_few(
    steps: Steps, table: NDArray[np.int64], rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the same, for many steps and few nodes."""
    best = np.full((steps.ends, table.shape[2]), NEVER)
    best[0] = 0
    if len(rows):
        ends, starts = np.unique(steps.after, return_index=True)
        for place in range(table.shape[1]):
            grown = best[steps.before] + table[rows, place]
            best[ends] = np.minimum(best[ends], np.minimum.reduceat(grown, starts, axis=0))
    return np.asarray(best[-1])


@functools.lru_cache(maxsize=1 << 10)
def parts_of(bundles: tuple[Counts, ...], useful: tuple[bool, ...]) -> tuple[Counts, ...]:
    """Return every multiset of *useful* items that is part of a bundle."""
    found: dict[Counts, None] = {}
    for bundle in bundles:
        ranges = (
            range(count + 1) if of_use else (0,)
            for count, of_use in zip(bundle, useful, strict=True)
        )
        found.update(dict.fromkeys(part for part in itertools.product(*ranges) if any(part)))
    return tuple(found)


@functools.lru_cache(maxsize=1 << 10)
def _containing(
    bundles: tuple[Counts, ...], parts: tuple[Counts, ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the bundles that contain each part, part after part, and where each part begins."""
    contained = (np.array(bundles)[None, :, :] >= np.array(parts)[:, None, :]).all(axis=2)
    part, bundle = np.nonzero(contained)
    return bundle, np.searchsorted(part, np.arange(len(parts)))


@functools.lru_cache(maxsize=1 << 12)
def _beside(parts: tuple[Counts, ...], part: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    index = {each: at for at, each in enumerate(parts)}
    pairs = [
        (at, index[rest])
        for each, at in index.items()
        if (rest := tuple(map(int.__sub__, each, parts[part]))) in index
    ]
    both = np.array(pairs, dtype=np.int64).reshape(len(pairs), 2)
    return both[:, 0], both[:, 1]


@functools.lru_cache(maxsize=1 << 12)
def _steps(needs: tuple[Need, ...], key: tuple[Counts, ...]) -> Steps | None:
    """Return the steps of GPUs that can give the parts in *key*."""
    wanted = np.array(list(itertools.chain.from_iterable(need.items for need in needs)))
    some = np.flatnonzero(wanted)
    strides = np.cumprod([1, *(wanted[some][:0:-1] + 1)])[::-1]
    ends = math.prod((wanted + 1).tolist())
    if ends > _MOST_ENDS:
        return None
    index = {part: at for at, part in enumerate(key)}
    nothing = (0,) * len(key[0]) if key else ()
    ways = [
        (part, shares)
        for shares in itertools.product(*((nothing, *need.shares()) for need in needs))
        if (part := index.get(total(shares))) is not None
    ]
    given = np.array(
        [list(itertools.chain.from_iterable(shares)) for _, shares in ways], dtype=np.int64
    ).reshape(len(ways), len(wanted))[:, some]
    has = np.arange(ends)[:, None] // strides % (wanted[some] + 1)
    enough = (has[:, None] + given <= wanted[some]).all(axis=2)
    before, way = np.nonzero(enough)
    after = before + (given @ strides)[way]
    order = np.argsort(after, kind="stable")
    before, after, way = before[order], after[order], way[order]
    parts = np.array([part for part, _ in ways], dtype=np.int64)
    return Steps(before, after, parts[way], way, [shares for _, shares in ways], ends)
