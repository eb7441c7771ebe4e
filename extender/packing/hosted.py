"""The levels of the packing model with nodes for VMs on several GPUs, each to its proven bound.

The model that takes VMs' pieces from any nodes of a group bounds what can be admitted; its prices
show the first suites. Then, level by level, suites are added until the bound is proven for every
plan, and at last whole numbers are looked for that attain all bounds at once: those of the linear
relaxation nearly are. Where none are found, the plan is one that comes near them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from extender.packing.classes import Condensed
from extender.packing.hosting import Hosting
from extender.packing.levels import Solved
from extender.packing.pricing import Pricing
from extender.packing.program import Level
from extender.packing.relaxation import Bound, Relaxation
from extender.packing.search import search
from extender.packing.seats import Tally
from extender.packing.suites import Needs

_MOST_ROUNDS = 30
"""Of adding suites, for a level; most take under ten."""

_SHARE_OF_SEARCH = 0.5
"""Of the time left, what the search for whole numbers may take; other models come after it."""


def solve_hosted(condensed: Condensed, *, left: Callable[[], float], seed: int) -> Solved | None:
    """Maximise level by level, VMs on several GPUs each on its node; None if there are none.

    Also None if there are too many nodes, or ways to lie on one, for all to be looked at.
    """
    needs = Needs(condensed.demand)
    if not needs.each or not condensed.classes:
        return None
    pricing = Pricing(condensed, needs)
    if not pricing.possible:
        return None
    return _Hosted(Hosting(condensed, needs, pricing), left, seed).solved()


class _Hosted:
    def __init__(self, hosting: Hosting, left: Callable[[], float], seed: int) -> None:
        self._hosting, self._left, self._seed = hosting, left, seed
        self._program = hosting.program
        self._relaxation = Relaxation(hosting.program, grows=True)
        self._bounds: list[int | None] = [None] * len(hosting.program.levels)
        self._held: dict[int, int] = {}

    def solved(self) -> Solved:
        """Return what came of the levels."""
        *admitted, value, _ = self._program.levels
        for at, level in enumerate(admitted):
            bound = self._relaxed(level)
            if bound is None:
                return self._known()
            self._hold(at, bound)
        bound = self._relaxed(value)
        if bound is None:
            return self._known()
        self._hosting.discourage()
        self._hosting.add(
            self._hosting.priced(bound.prices, first=True, left_time=self._left).suites
        )
        last = self._certified(len(admitted))
        levels = range(len(self._program.levels))
        if self._from_anywhere():
            # Pieces of different nodes give more than VMs find on nodes: all anew without them.
            self._release(range(len(admitted)))
            self._bounds[1:] = [None] * (len(levels) - 1)
            self._hosting.close_anywhere()
            self._relaxation = Relaxation(self._program, grows=True)
        elif last is None:
            return self._nearly()
        else:
            self._hold(len(admitted), last)
            levels = levels[-1:]
        for at in levels:
            last = self._certified(at)
            if last is None:
                return self._known() if at < len(admitted) else self._nearly()
            self._hold(at, last)
        assert last is not None
        return self._attained(last)

    def _hold(self, at: int, bound: Bound) -> None:
        """Let a level attain its bound from now on."""
        self._bounds[at] = bound.most
        self._held[at] = self._program.hold(self._program.levels[at], bound.most)

    def _release(self, levels: Iterable[int]) -> None:
        """Let those of the levels that are held be anything from now on."""
        for at in levels:
            if at in self._held:
                self._program.release(self._held.pop(at))

    def _attained(self, last: Bound) -> Solved:
        """Look for whole numbers that attain all bounds; if none are found, nearly."""
        columns = list(self._useful(last))
        near: Solved | None = None
        for useful in columns:
            if self._left() <= 0:
                break
            found = self._search(len(self._program.levels) - 1, None, useful)
            if found is not None:
                return self._solved(found, proven=True)
            if near is None:
                near = self._nearly()
        return near or self._known()

    def _nearly(self) -> Solved:
        """Look for whole numbers that admit what can be, and come near the bounds of the rest."""
        program = self._program
        *_, value, newly_used = range(len(program.levels))
        held = {at: self._bounds[at] for at in (value, newly_used) if at in self._held}
        self._release(held)
        best: Sequence[int] | None = None
        for at in (value, newly_used):
            bound = self._relaxed(program.levels[at])
            if bound is None:
                break
            for useful in self._useful(bound):
                if best is not None:
                    useful |= np.array(best) > 0
                found = self._search(at, best, useful)
                if found is not None:
                    best = found
                    if program.levels[at].sum(best) == self._bounds[at] or self._left() <= 0:
                        break
            if best is None:
                break
            self._held[at] = program.hold(program.levels[at], program.levels[at].sum(best))
        self._release((value, newly_used))
        for at, most in held.items():
            assert most is not None
            self._held[at] = program.hold(program.levels[at], most)
        return self._known() if best is None else self._solved(best, proven=False)

    def _search(
        self, at: int, best: Sequence[int] | None, useful: NDArray[np.bool_]
    ) -> Sequence[int] | None:
        """Return whole numbers that make a level large, better than the best known if any are."""
        return search(
            self._program,
            self._program.levels[at].within(self._bounds[at]),
            best,
            useful,
            seconds=self._left() * _SHARE_OF_SEARCH,
            seed=self._seed,
        ).values

    def _solved(self, values: Sequence[int], *, proven: bool) -> Solved:
        return Solved(self._bounds, len(self._program.upper), self._tally(values), proven=proven)

    def _from_anywhere(self) -> bool:
        """Return whether what is to be admitted takes pieces of different nodes for a VM."""
        return bool((self._relaxation.values()[self._hosting.anywhere] > 1e-6).any())

    def _known(self) -> Solved:
        return Solved(self._bounds, len(self._program.upper))

    def _relaxed(self, level: Level) -> Bound | None:
        left = self._left()
        return None if left <= 0 else self._relaxation.bound(level, seconds=left)

    def _certified(self, at: int) -> Bound | None:
        """Return a level's bound once it holds for every plan; None if that is not reached.

        Then the least that was proven is known of the level, and nothing of those after it.
        """
        level = self._program.levels[at]
        for _ in range(_MOST_ROUNDS):
            bound = self._relaxed(level)
            if bound is None or self._left() <= 0:
                return None
            priced = self._hosting.priced(bound.prices, first=False, left_time=self._left)
            if priced.most is not None:
                if priced.most <= bound.most:
                    return bound
                self._bounds[at] = min(priced.most, self._bounds[at] or priced.most)
            if not self._hosting.add(priced.suites):
                return None
        return None

    def _useful(self, bound: Bound) -> Iterator[NDArray[np.bool_]]:
        """Yield columns that may be above 0, more and more: the first are the likeliest.

        The relaxation's numbers are whole but for a few. What is not taken there is left out, but
        for who is admitted and sent where; then but for what GPUs receive.
        """
        hosting = self._hosting
        all_useful = bound.useful.copy()
        all_useful[hosting.anywhere] = False
        taken = all_useful & (self._relaxation.values() > 1e-6)
        for free in (hosting.counts.requests, range(hosting.own)):
            useful = taken.copy()
            useful[list(free)] = all_useful[list(free)]
            yield useful
        yield all_useful

    def _tally(self, values: Sequence[int]) -> Tally:
        hosting = self._hosting
        counted = hosting.counts.tally(hosting.condensed, values)
        return Tally(
            counted.receive,
            counted.admit,
            counted.send,
            tuple(suite for suite, column in hosting.suites.items() for _ in range(values[column])),
            {
                (index, part, items): values[column]
                for (index, part), columns in hosting.give.items()
                for items, column in columns.items()
                if values[column]
            },
        )
