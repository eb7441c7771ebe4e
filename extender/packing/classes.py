"""The problem with everything that is the same counted instead of listed.

GPUs of a class are in the same group of nodes and can take the same bundles for the same gain. Only
counts remain, so that what is solved does not grow with the fleet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from extender.packing.bundles import Bundle, Counts, bundles
from extender.packing.demand import Demand, demand
from extender.packing.problem import Problem

Offers = tuple[tuple[Counts, int], ...]
"""(How many of each item, gain in value) of every bundle that a GPU can take."""


@dataclass(frozen=True)
class GpuClass:
    """GPUs that are the same to a plan; ``states`` are those of the fleet it has, fullest first."""

    group: int
    unused: bool
    count: int
    offers: Offers
    states: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Condensed:
    """Types of requests, groups of nodes, and classes of GPUs.

    ``group`` has the group of each node, (nodes,); ``eligible[f]`` the groups that requests with
    footprint ``f`` may go to. GPUs that can take nothing of what is asked for are in no class.
    ``takes`` has what GPUs in each state of the fleet can take.
    """

    problem: Problem
    demand: Demand
    group: NDArray[np.int64]
    eligible: Sequence[tuple[int, ...]]
    classes: Sequence[GpuClass]
    by_node: bool
    takes: Mapping[int, Mapping[Counts, Bundle]]

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return int(self.group.max(initial=-1)) + 1

    @cached_property
    def class_of(self) -> Mapping[tuple[int, int], int]:
        """The index of the class of the GPUs of a (group, state)."""
        return {
            (each.group, state): index
            for index, each in enumerate(self.classes)
            for state in each.states
        }

    def bundles(self, state: int) -> Mapping[Counts, Bundle]:
        """Return what a GPU in that state of the fleet can take."""
        return self.takes[state]

    def gpus(self, group: int, state: int) -> NDArray[np.int64]:
        """Return the GPUs of a group in a state: the fuller node's first, then by name."""
        order, codes = self._ordered
        code = group * len(self.problem.fleet.states) + state
        return order[np.searchsorted(codes, code) : np.searchsorted(codes, code, side="right")]

    @cached_property
    def _ordered(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        fleet = self.problem.fleet
        codes = _codes(self.problem, self.group)
        free = _narrow(fleet.taken_slices.max(initial=0) - fleet.taken_slices)[fleet.node_of]
        order = np.argsort(free, kind="stable")
        order = order[np.argsort(_narrow(codes)[order], kind="stable")]
        return order, codes[order]


def condense(problem: Problem, *, by_node: bool = False) -> Condensed:
    """Return the problem in classes.

    ``by_node`` makes each node that a VM with vGPUs on several GPUs could go to a group of its own:
    more classes, but then what has room in a group has room on a node.
    """
    asked = demand(problem)
    group, eligible = _groups(problem, asked, by_node=by_node)
    histogram = list(_histogram(problem, group))
    takes = {
        state: _bundles(problem, asked, state) for state in {state for _, state, _ in histogram}
    }
    limits = _limits(asked, eligible, int(group.max(initial=-1)) + 1, takes)
    offered = _Offered(takes)
    found: dict[tuple[int, bool, int], list[tuple[int, int]]] = {}
    for at, state, count in histogram:
        offers = offered.index(state, limits[at])
        if offered.each[offers]:
            unused = problem.fleet.states[state].occupancy.mask == 0
            found.setdefault((at, unused, offers), []).append((state, count))
    classes = [
        GpuClass(
            group=at,
            unused=unused,
            count=sum(count for _, count in members),
            offers=offered.each[offers],
            states=tuple(
                sorted(
                    (state for state, _ in members),
                    key=lambda state: _earliest(problem, state),
                )
            ),
        )
        for (at, unused, offers), members in found.items()
    ]
    return Condensed(problem, asked, group, eligible, classes, by_node, takes)


def _earliest(problem: Problem, state: int) -> tuple[int, int]:
    """Order the states of a class: the fullest first, as full ones by precedence."""
    each = problem.fleet.states[state]
    return -each.taken_slices, -each.model.tables.precedence(each.occupancy)


class _Offered:
    """What GPUs in a state can take of what could go to a group, each different one once.

    GPUs in few states are in many groups, and what they can take is long: its index is compared.
    """

    def __init__(self, takes: Mapping[int, Mapping[Counts, Bundle]]) -> None:
        self._takes = takes
        self._known: dict[tuple[int, Counts], int] = {}
        self._index: dict[Offers, int] = {}
        self.each: list[Offers] = []

    def index(self, state: int, limit: Counts) -> int:
        """Return the index of the bundles with no more of any item than the *limit*."""
        known = self._known.get((state, limit))
        if known is not None:
            return known
        takes = self._takes[state]
        counts = np.array(list(takes)).reshape(len(takes), len(limit))
        within = np.all(counts <= np.array(limit), axis=1)
        offers = tuple(
            (items, bundle.gain)
            for (items, bundle), kept in zip(takes.items(), within.tolist(), strict=True)
            if kept
        )
        at = self._known[state, limit] = self._index.setdefault(offers, len(self.each))
        if at == len(self.each):
            self.each.append(offers)
        return at


def _groups(
    problem: Problem, asked: Demand, *, by_node: bool
) -> tuple[NDArray[np.int64], list[tuple[int, ...]]]:
    """Return the group of each node, and for each footprint the groups it may go to.

    Nodes that the same requests may go to are a group.
    """
    fleet = problem.fleet
    allowed = np.zeros((len(asked.node_sets), len(fleet.nodes)), dtype=np.bool_)
    for row, names in zip(allowed, asked.node_sets, strict=True):
        row[[fleet.index[name] for name in names if name in fleet.index]] = True
    marks = np.packbits(allowed, axis=0).T
    if by_node:
        apart = np.zeros(len(fleet.nodes), dtype=np.bool_)
        for each in asked.footprints:
            if not each.on_one_gpu:
                apart |= True if each.nodes is None else allowed[each.nodes]
        own = np.where(apart, np.arange(1, len(fleet.nodes) + 1), 0)
        marks = np.hstack([marks, own.astype(">u4")[:, None].view(np.uint8)])
    if marks.shape[1] == 0:
        group = np.zeros(len(fleet.nodes), dtype=np.int64)
        first = np.zeros(min(1, len(fleet.nodes)), dtype=np.int64)
    else:
        rows = np.ascontiguousarray(marks).view(f"V{marks.shape[1]}")[:, 0]
        _, first, group = np.unique(rows, return_index=True, return_inverse=True)
    everywhere = tuple(range(len(first)))
    eligible = [
        everywhere
        if each.nodes is None
        else tuple(int(at) for at in np.flatnonzero(allowed[each.nodes][first]))
        for each in asked.footprints
    ]
    return group, eligible


def _limits(
    asked: Demand,
    eligible: Sequence[tuple[int, ...]],
    groups: int,
    takes: Mapping[int, Mapping[Counts, Bundle]],
) -> list[Counts]:
    """Return how many of each item could go to each group at most."""
    limits = np.zeros((groups, len(asked.items)), dtype=np.int64)
    for each, types, here in zip(asked.footprints, asked.types_of, eligible, strict=True):
        many = sum(len(asked.types[at].requests) for at in types)
        for item, count in each.needs.items():
            limits[list(here), item] += count * many
    # Beyond what any GPU takes, groups are the same.
    most = np.zeros(len(asked.items), dtype=np.int64)
    for bundles_here in takes.values():
        most = np.maximum(most, np.array([*bundles_here, most]).max(axis=0))
    return [tuple(row) for row in np.minimum(limits, most).tolist()]


def _bundles(problem: Problem, asked: Demand, state: int) -> Mapping[Counts, Bundle]:
    here = problem.fleet.states[state]
    model = problem.fleet.models.index(here.model)
    items = tuple(item[model] for item in asked.items)
    return bundles(here.model.tables, here.occupancy, items)


def _codes(problem: Problem, group: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return one number for the (group, state) of each GPU."""
    fleet = problem.fleet
    return np.asarray(group[fleet.node_of] * len(fleet.states) + fleet.state)


def _histogram(problem: Problem, group: NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
    """Yield (group, state, number of GPUs) of those that occur."""
    counts = np.bincount(_codes(problem, group))
    for code in np.flatnonzero(counts).tolist():
        at, state = divmod(code, len(problem.fleet.states))
        yield at, state, int(counts[code])


def _narrow(keys: NDArray[np.int64]) -> NDArray[np.integer]:
    """Return keys as 16 bits where they fit: numpy then sorts by radix, ten times as fast."""
    return keys.astype(np.uint16) if keys.max(initial=0) < 1 << 16 else keys
