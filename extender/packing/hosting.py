"""The packing model with the nodes of VMs on several GPUs in it, by column generation.

A *suite* says on which GPUs of which node a VM finds what it needs. There are too many to list, and
few are needed: those that prices of the linear relaxation show to be worth having are added until
no other is, which proves the bound. The GPUs that give shares to suites stay counted by class.

The bound holds for every plan. Beyond what the rows cost at any prices, a node adds at most what
the VMs on it gain at these prices: each pays for its shares at least what ``Pricing`` says they
cost beside whatever others there are, and the first on a scarce GPU pays the GPU's price.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from extender.packing.bundles import Counts
from extender.packing.classes import Condensed
from extender.packing.model import model
from extender.packing.pricing import NEVER, Pricing, Scarce, cheapest
from extender.packing.relaxation import Prices
from extender.packing.sharing import Sharing
from extender.packing.suites import Needs, Suite, total

_FEW = 16
"""Suites; where no more gain, what would gain after them is looked for at once."""


class Priced(NamedTuple):
    """What follows from prices: a bound that holds for every plan, and suites worth adding.

    With ``most`` None no bound was proven.
    """

    most: int | None
    suites: Sequence[Suite]


class Hosting:
    """The model; suites are added to it as they are found."""

    def __init__(self, condensed: Condensed, needs: Needs, pricing: Pricing) -> None:
        self.condensed, self._needs, self._pricing = condensed, needs, pricing
        self.program, self.counts, self._rows = model(condensed, hosted=needs.of)
        self.own = len(self.program.upper)  # columns of the model without suites
        self.suites: dict[Suite, int] = {}
        self.give: dict[tuple[int, Counts], dict[Counts, int]] = {}
        self._give_rows: dict[tuple[int, Counts], int] = {}
        self._scarce_rows: dict[int, int] = {}
        self._levels = self.program.levels[-2:]
        self._host_rows: dict[tuple[int, int], int] = {}
        self._most: Counter[tuple[int, int]] = Counter()
        self._host_what_is_sent_to_each_group()
        self.anywhere = self._pieces_of_any_nodes()
        self._nodes_of = [np.flatnonzero(condensed.group == at) for at in range(condensed.groups)]
        self._offered = [
            np.array([items for items, _ in each.offers]) for each in condensed.classes
        ]
        receive = self.counts.receive
        self._receive = [np.array(each, dtype=np.int64) for each in receive]
        self._others = np.setdiff1d(np.arange(self.own), np.concatenate([*self._receive, []]))

    def _host_what_is_sent_to_each_group(self) -> None:
        """As many VMs with a need find a suite in a group as are sent there."""
        sent: dict[tuple[int, int], list[int]] = defaultdict(list)
        for footprint, need in self._needs.of.items():
            for group, column in self.counts.send[footprint].items():
                sent[need, group].append(column)
                self._most[need, group] += self.program.upper[column]
        for key, columns in sent.items():
            self._host_rows[key] = self.program.equal(columns, [-1] * len(columns), 0)

    def _pieces_of_any_nodes(self) -> list[int]:
        """Add, for each need and group, suites whose pieces may be of different nodes."""
        columns = []
        for (need, group), row in self._host_rows.items():
            column = self.program.column(self._most[need, group])
            self.program.join(column, row, 1)
            for item, count in enumerate(self._needs.each[need].items):
                if not count:
                    continue
                if (group, item) not in self._rows.make:
                    self._rows.make[group, item] = self.program.equal((), (), 0)
                self.program.join(column, self._rows.make[group, item], -count)
            columns.append(column)
        return columns

    def discourage(self) -> None:
        """Make pieces of different nodes cost more than any suite."""
        for level in self._levels:
            most = 2 * max((abs(weight) for weight in level.weights), default=0) + 1
            for (need, _), column in zip(self._host_rows, self.anywhere, strict=True):
                level.columns.append(column)
                level.weights.append(-most * 2 * sum(self._needs.each[need].items))

    def close_anywhere(self) -> None:
        """Let VMs have pieces of one node only."""
        for column in self.anywhere:
            self.program.upper[column] = 0

    def add(self, suites: Iterable[Suite]) -> int:
        """Add suites; return how many are new."""
        before = len(self.suites)
        for suite in suites:
            if suite in self.suites:
                continue
            group = int(self.condensed.group[suite.node])
            # No more than one: the row of each GPU sees to it, and only rows have prices.
            column = self.suites[suite] = self.program.column(2)
            for need, count in Counter(suite.needs).items():
                self.program.join(column, self._host_rows[need, group], count)
            taken: Counter[int] = Counter()
            for gpu, shares in suite.gpus:
                taken[self._give_row(self._class_of(group, gpu), total(shares))] += 1
                if gpu not in self._scarce_rows:
                    self._scarce_rows[gpu] = self.program.at_most((), (), 1)
                self.program.join(column, self._scarce_rows[gpu], 1)
            for row, count in taken.items():
                self.program.join(column, row, -count)
        return len(self.suites) - before

    def _class_of(self, group: int, gpu: int) -> int:
        return self.condensed.class_of[group, int(self.condensed.problem.fleet.state[gpu])]

    def _give_row(self, index: int, part: Counts) -> int:
        """Return the row of the GPUs of a class that give a part, and receive a bundle with it."""
        row = self._give_rows.get((index, part))
        if row is not None:
            return row
        program, gpus = self.program, self.condensed.classes[index]
        row = self._give_rows[index, part] = program.equal((), (), 0)
        columns = self.give[index, part] = {}
        value, newly_used = self._levels
        rest = self._offered[index] - np.array(part)
        for at in np.flatnonzero((rest >= 0).all(axis=1)).tolist():
            items, gain = gpus.offers[at]
            # The class's row bounds it: only rows have prices.
            column = columns[items] = program.column(gpus.count + 1)
            program.join(column, row, 1)
            program.join(column, self._rows.give[index], 1)
            for item, count in enumerate(rest[at].tolist()):
                if count:
                    program.join(column, self._rows.make[gpus.group, item], count)
            value.columns.append(column)
            value.weights.append(gain)
            if gpus.unused:
                newly_used.columns.append(column)
                newly_used.weights.append(-1)
        return row

    def priced(self, prices: Prices, *, first: bool, left_time: Callable[[], float]) -> Priced:
        """Return the bound that prices prove, and suites that they show to be worth adding.

        *first*: also those that are not, as many as might be wanted. With no time left nothing
        is proven.
        """
        program, rows = self.program, prices.rows.tolist()
        paid = program.paid(prices.rows)
        for column in self._others[prices.left[self._others] > 0].tolist():
            paid += int(prices.left[column]) * program.upper[column]
        left = [prices.left[columns] for columns in self._receive]
        for each, gpus in zip(left, self.condensed.classes, strict=True):
            surplus = max(0, int(each.max()))
            each -= surplus
            paid += surplus * gpus.count
        lost, scarce = self._pricing.losses(left), self._scarce(rows)
        rents, alone = self._alone(rows, lost, scarce)
        tolerance = prices.unit // (16 * (self._needs.vms + 1))
        worst = max(0, int(alone.max(initial=0)))
        if first:
            return Priced(paid // prices.unit, self._cheapest(alone, lost, scarce))
        suites = self._gaining(alone, tolerance, lost, scarce)
        if len(suites) > _FEW:
            return Priced(None, suites)
        gains = Sharing(self._pricing, lost, scarce, rents, alone).gains(tolerance, left=left_time)
        for needs, nodes in gains.sets:
            suites += self._pricing.suites(needs, nodes, lost, scarce)
        if len(suites) <= _FEW:
            suites += [
                other
                for suite in suites
                if len(suite.needs) == 1
                for other in self._instead(suite, lost, scarce)
            ]
        if gains.most is None:
            return Priced(None, suites)
        # What gains no more than the tolerance was not looked at further.
        paid += max(worst, gains.most, tolerance) * self._needs.vms + gains.beyond
        return Priced(paid // prices.unit, suites)

    def _instead(self, suite: Suite, lost: NDArray[np.int64], scarce: Scarce) -> Iterator[Suite]:
        """Yield the best suites for the same VMs on the same node without one of its GPUs.

        Where one of five equal GPUs is left out, so could each of the others be: one after the
        other would be found worth adding.
        """
        node = np.array([suite.node])
        for gpu, _ in suite.gpus:
            place = gpu - self.condensed.problem.fleet.first[suite.node]
            without = Scarce(
                np.append(scarce.places, place),
                np.append(scarce.nodes, suite.node),
                np.append(scarce.prices, NEVER),
            )
            yield from self._pricing.suites(suite.needs, node, lost, without)

    def _alone(
        self, rows: Sequence[int], lost: NDArray[np.int64], scarce: Scarce
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return what a VM may lose on each node, and what it gains on GPUs of its own."""
        pricing, needs = self._pricing, self._needs.each
        shape = (len(needs), len(self.condensed.group))
        rents, alone = np.full(shape, -NEVER), np.full(shape, -NEVER)
        steps = [pricing.steps((need,)) for need in range(len(needs))]
        parts = np.unique(np.concatenate([each.parts for each in steps if each is not None]))
        table = pricing.table(lost, scarce, parts)
        for (need, group), row in self._host_rows.items():
            made = sum(
                count * rows[self._rows.make[group, item]]
                for item, count in enumerate(needs[need].items)
                if count
            )
            rents[need, self._nodes_of[group]] = made - rows[row]
        for need, each in enumerate(steps):
            if each is not None:
                here = np.searchsorted(parts, each.parts)
                alone[need] = rents[need] - cheapest(each, table, here)
        return rents, alone

    def _cheapest(
        self, alone: NDArray[np.int64], lost: NDArray[np.int64], scarce: Scarce
    ) -> list[Suite]:
        """Return suites for each need in each group, half as many again as could be wanted."""
        found: list[Suite] = []
        for need, each in enumerate(alone):
            chosen = [
                nodes[np.argpartition(-each[nodes], many - 1)[:many]]
                for group, nodes in enumerate(self._nodes_of)
                if (many := min(len(nodes), -(-3 * self._most[need, group] // 2)))
            ]
            if chosen:
                nodes = np.concatenate(chosen)
                found += self._pricing.suites((need,), nodes, lost, scarce)
        return found

    def _gaining(
        self,
        alone: NDArray[np.int64],
        tolerance: int,
        lost: NDArray[np.int64],
        scarce: Scarce,
    ) -> list[Suite]:
        """Return the suites of single VMs that gain."""
        found: list[Suite] = []
        for need, each in enumerate(alone):
            nodes = np.flatnonzero(each > tolerance)
            if nodes.size:
                found += self._pricing.suites((need,), nodes, lost, scarce)
        return found

    def _scarce(self, rows: Sequence[int]) -> Scarce:
        """Return the GPUs that have a price of their own."""
        fleet = self.condensed.problem.fleet
        priced = [(gpu, rows[row]) for gpu, row in self._scarce_rows.items() if rows[row] > 0]
        gpus = np.array([gpu for gpu, _ in priced], dtype=np.int64)
        nodes = fleet.node_of[gpus]
        prices = np.array([price for _, price in priced], dtype=np.int64)
        return Scarce(gpus - fleet.first[nodes], nodes, prices)
