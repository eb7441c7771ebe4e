"""Contenders on the same demands: one replay for each of them and each seed."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from extender.policy import Shares
from extender.simulation.contenders import Contender
from extender.simulation.demand import Demand
from extender.simulation.fleet import Fleet, Kind
from extender.simulation.measures import Measures, accepted_only, measures
from extender.simulation.repack import Fits, repack_test
from extender.simulation.replay import replay

WARMUP = 3_000
"""Requests before counting begins: 6 to 20 mean lifetimes on 100 GPUs, by mix."""


class Stage(msgspec.Struct, frozen=True):
    """What contenders are tried on.

    ``shares`` is how much of the demand each kind is, as an observer before the counting begins
    would know it. ``demand`` makes the demand of a seed, ``warmup`` requests included.
    """

    fleet: Fleet
    kinds: tuple[Kind, ...]
    shares: tuple[float, ...]
    demand: Callable[[int], Demand]
    warmup: int = WARMUP
    queueing: bool = False

    @property
    def observed(self) -> Shares:
        """The share of each kind, by the name of its profile in the first group that has it."""
        names = (next(p.name for p in kind.profiles if p is not None) for kind in self.kinds)
        return tuple(zip(names, self.shares, strict=True))


def play(
    stage: Stage,
    contenders: Mapping[str, Contender | None],
    seeds: Sequence[int],
    *,
    clock_ns: Callable[[], int] | None = None,
) -> Iterator[tuple[int, str, Measures]]:
    """Yield (seed, name, measures); a contender of None is the repacking reference."""
    fits = repack_test(stage.fleet, stage.kinds)
    boards = {
        name: contender.board(stage.fleet, stage.kinds)
        for name, contender in contenders.items()
        if contender is not None
    }
    for seed in seeds:
        demand = stage.demand(seed)
        for name, contender in contenders.items():
            if contender is None:
                accepted = repacked(demand, fits, len(stage.kinds))
                yield seed, name, accepted_only(stage.kinds, demand, accepted, stage.warmup)
                continue
            history = replay(
                boards[name],
                contender.picker(boards[name], seed),
                demand,
                queueing=stage.queueing,
                clock_ns=clock_ns,
            )
            yield seed, name, measures(boards[name], demand, history, fits, stage.warmup)


def repacked(demand: Demand, fits: Fits, kinds: int) -> NDArray[np.bool_]:
    """Return which requests are admitted if all others may be moved, at once and for nothing.

    Greedy: what fits is admitted. So this is no upper bound on the count of requests.
    """
    live = [0] * kinds
    accepted = np.zeros(len(demand.times), np.bool_)
    leaving: list[tuple[float, int]] = []
    for number, (time, kind) in enumerate(zip(demand.times, demand.kinds, strict=True)):
        while leaving and leaving[0][0] <= time:
            live[heapq.heappop(leaving)[1]] -= 1
        live[kind] += 1
        if fits(live):
            accepted[number] = True
            heapq.heappush(leaving, (time + demand.lifetimes[number], kind))
        else:
            live[kind] -= 1
    return accepted
