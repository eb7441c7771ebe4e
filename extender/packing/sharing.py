"""VMs that share GPUs of a node: whether two or more gain together what none gains alone.

With each VM alone on its GPUs no suite may be worth adding, and yet two VMs on the same GPUs might
gain: what a GPU loses by giving anything, they lose once. Sets of VMs are looked at by size. What a
set gains at most follows from the sets with one VM less, and what one more VM gains at most, beside
whatever others; only where that leaves a gain is it computed what the set really gains.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from extender.packing.pricing import NEVER, Pricing, Scarce, cheapest, cheapest_of_few

_MOST_TOGETHER = 3
"""VMs in a set; of more it is only known what their vGPUs could gain one by one."""


_Known = dict[tuple[int, ...], NDArray[np.int64]]


class Gains(NamedTuple):
    """What VMs gain on nodes by sharing GPUs, at most; and sets that gain, with their nodes.

    ``most`` is for a node, but for what sets too large to look at gain: ``beyond``, on all nodes.
    It is None where there was no time to tell.
    """

    most: int | None
    sets: Sequence[tuple[tuple[int, ...], NDArray[np.int64]]]
    beyond: int = 0


class Sharing:
    """What prices leave for VMs that share GPUs.

    ``rents``: (needs, nodes), what a VM may lose and still be worth its place; ``alone``: (needs,
    nodes), what it gains on GPUs of its own.
    """

    def __init__(
        self,
        pricing: Pricing,
        lost: NDArray[np.int64],
        scarce: Scarce,
        rents: NDArray[np.int64],
        alone: NDArray[np.int64],
    ) -> None:
        self._pricing, self._lost, self._scarce = pricing, lost, scarce
        self._rents, self._alone = rents, alone
        self._key = tuple(pricing.parts)

    def gains(self, tolerance: int, *, left: Callable[[], float]) -> Gains:
        """Return what sets of two VMs and more gain at most; gains up to *tolerance* are none.

        They are told apart until no time is ``left``.
        """
        # Without rent a VM gains nothing, and leaving it out loses nothing to the others.
        possible = (self._rents > tolerance) & (self._alone > -NEVER // 2)
        paying = np.flatnonzero(possible.any(axis=1)).tolist()
        nodes = self._promising(paying, tolerance) if paying else np.zeros(0, dtype=np.int64)
        if not nodes.size:
            return Gains(0, ())
        more = self._beside(paying, nodes)
        filled = self._filled(paying, nodes)
        fewest = min(sum(self._pricing.needs[need].items) for need in paying)
        known: _Known = {(need,): self._alone[need, nodes] for need in paying}
        found: list[tuple[tuple[int, ...], NDArray[np.int64]]] = []
        most = 0
        for size in itertools.count(2):
            at_most = filled[fewest * size :].max(axis=0, initial=-NEVER)
            possible = at_most > tolerance
            if not known or not possible.any():
                return Gains(most, found)
            if size > _MOST_TOGETHER:
                return Gains(most, found, int(at_most[possible].sum()))
            larger: _Known = {}
            for needs in itertools.combinations_with_replacement(paying, size):
                if left() <= 0:
                    return Gains(None, found)
                gain = np.full(len(nodes), NEVER)
                for at in range(len(needs)):
                    rest = known.get((*needs[:at], *needs[at + 1 :]))
                    if rest is None:
                        break
                    gain = np.minimum(gain, rest + more[needs[at]])
                else:
                    gain[~possible & (gain > 0)] = 0
                    open_ones = np.flatnonzero(gain > tolerance)
                    if open_ones.size:
                        together = self._together(needs, nodes[open_ones])
                        gain[open_ones] = np.minimum(gain[open_ones], together)
                    larger[needs] = gain
                    most = max(most, int(gain.max()))
                    if (gain > tolerance).any():
                        found.append((needs, nodes[gain > tolerance]))
            known = {needs: gain for needs, gain in larger.items() if (gain > -NEVER // 2).any()}
        raise AssertionError("sets grow until none gains, or they are too large")

    def _promising(self, paying: Sequence[int], tolerance: int) -> NDArray[np.int64]:
        """Return the nodes where VMs could gain, sharing every loss with all that a GPU can give.

        Each pays its part of a loss by the number of its items: whoever shares it, they pay all.
        """
        pricing = self._pricing
        shares = self._shares(paying)
        parts = np.array(self._key, dtype=np.int64)
        many = parts.sum(axis=1)
        mine = parts[list(shares)]
        least = np.empty((len(shares), self._lost.shape[1]), dtype=np.int64)
        fewest = np.empty_like(least)
        for row, share in enumerate(shares):
            larger = np.flatnonzero((parts >= parts[share]).all(axis=1))
            lost, items = self._lost[larger], int(mine[row].sum())
            least[row] = (lost // many[larger, None] * items).min(axis=0)
            most = np.where(lost < NEVER, many[larger, None], 0).max(axis=0)
            fewest[row] = most
        table = np.take(least, pricing.classes, axis=1)
        at = pricing.classes[self._scarce.places, self._scarce.nodes]
        shared = mine.sum(axis=1)[:, None] * self._scarce.prices // np.maximum(fewest[:, at], 1)
        table[:, self._scarce.places, self._scarce.nodes] += shared
        promising = np.zeros(table.shape[2], dtype=np.bool_)
        for need in paying:
            steps = pricing.steps((need,))
            assert steps is not None
            rows = np.array([shares[part] for part in steps.parts.tolist()], dtype=np.int64)
            promising |= self._rents[need] - cheapest(steps, table, rows) > tolerance
        return np.flatnonzero(promising)

    def _filled(self, paying: Sequence[int], nodes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return what so many items gain on each node at most: (number of items, nodes).

        Whichever they are: each brings its VM's rent, divided equally among the VM's items.
        """
        pricing = self._pricing
        brings = np.zeros((len(self._key[0]), len(nodes)), dtype=np.int64)
        for need in paying:
            items = np.array(pricing.needs[need].items)
            each = -(-np.maximum(self._rents[need, nodes], 0) // int(items.sum()))
            brings[items > 0] = np.maximum(brings[items > 0], each)
        parts = np.array(self._key, dtype=np.int64)
        many = parts.sum(axis=1)
        table = -pricing.table(self._lost, self._scarce, np.arange(len(parts)), nodes)
        table += (parts @ brings)[:, None, :]
        by_number = np.full((int(many.max()) + 1, *table.shape[1:]), -NEVER)
        np.maximum.at(by_number, many, table)
        best = np.full((1, len(nodes)), 0, dtype=np.int64)
        for place in range(table.shape[1]):
            grown = np.full((len(best) + len(by_number) - 1, len(nodes)), -NEVER)
            grown[: len(best)] = best
            for number in range(1, len(by_number)):
                into = grown[number : number + len(best)]
                np.maximum(into, best + by_number[number, place], out=into)
            best = np.maximum(grown, -NEVER)
        return best

    def _beside(
        self, paying: Sequence[int], nodes: NDArray[np.int64]
    ) -> dict[int, NDArray[np.int64]]:
        """Return what one VM more gains at most, whatever others are on a node."""
        pricing, lost = self._pricing, self._lost
        shares = self._shares(paying)
        least = np.full((len(shares), lost.shape[1]), NEVER)
        for part, row in shares.items():
            both, others = pricing.beside(part)
            if both.size:
                more = np.where(lost[both] < NEVER, lost[both] - lost[others], NEVER)
                least[row] = more.min(axis=0)
        alone = pricing.table(lost, self._scarce, np.array(list(shares), dtype=np.int64), nodes)
        table = np.minimum(alone, np.take(least, pricing.classes[:, nodes], axis=1))
        found = {}
        for need in paying:
            steps = pricing.steps((need,))
            assert steps is not None
            rows = np.array([shares[part] for part in steps.parts.tolist()], dtype=np.int64)
            found[need] = self._rents[need, nodes] - cheapest(steps, table, rows)
        return found

    def _together(self, needs: tuple[int, ...], nodes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return what VMs gain on nodes by sharing GPUs as is best for them together."""
        steps = self._pricing.steps(needs)
        if steps is None:
            return np.full(len(nodes), NEVER)
        parts, rows = np.unique(steps.parts, return_inverse=True)
        table = self._pricing.table(self._lost, self._scarce, parts, nodes)
        rent = self._rents[list(needs)][:, nodes].sum(axis=0)
        return np.asarray(rent - cheapest_of_few(steps, table, rows))

    def _shares(self, needs: Sequence[int]) -> dict[int, int]:
        """Return the parts that a GPU may give to one VM with one of the needs, with an index."""
        parts: set[int] = set()
        for need in needs:
            steps = self._pricing.steps((need,))
            assert steps is not None
            parts.update(steps.parts.tolist())
        return {part: row for row, part in enumerate(sorted(parts))}
