"""What a history comes to: acceptance, refusals by cause, and how full and how broken up GPUs were.

Requests before the warm-up ends are not counted. Averages over time are exact integrals from the
first counted arrival to the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from extender.packing.fragmentation import blocked_windows
from extender.packing.value import unusable_slices
from extender.simulation.board import Board
from extender.simulation.demand import Demand
from extender.simulation.fleet import Kind
from extender.simulation.repack import Fits
from extender.simulation.replay import NOWHERE, History

PERIODS = 20
"""Equal stretches of the counted time, for what changes over it."""


class Tally(msgspec.Struct, frozen=True):
    """Requests of one kind that were counted."""

    asked: int
    accepted: int


class Averages(msgspec.Struct, frozen=True):
    """Means over time, or over a stretch of it, for the whole fleet.

    ``used``: taken memory slices as a share of all. ``unusable``: free slices of GPUs
    in use that a shape cannot use, summed over shapes (FGU), per GPU. ``blocked``: MFI's
    fragmentation per GPU.
    """

    active_gpus: float
    used: float
    unusable: float
    blocked: float


class Waiting(msgspec.Struct, frozen=True):
    """With queueing: the share that had to wait, and the waiting time of all who were placed."""

    share: float
    mean: float
    p99: float


class Measures(msgspec.Struct, frozen=True):
    """What one replay came to; what a reference without places cannot know is None.

    ``capacity`` and ``fragmentation``: refusals that no repacking could have helped, and the rest.
    ``decision_us``: median and 99th percentile.
    """

    kinds: Mapping[str, Tally]
    sizes: tuple[int, ...]
    capacity: float | None = None
    fragmentation: float | None = None
    averages: Averages | None = None
    over_time: tuple[Averages, ...] = ()
    waiting: Waiting | None = None
    decision_us: tuple[float, float] | None = None

    @property
    def requests(self) -> float:
        """The accepted share of requests."""
        tallies = self.kinds.values()
        return sum(t.accepted for t in tallies) / sum(t.asked for t in tallies)

    @property
    def slices(self) -> float:
        """The accepted share of the demanded memory slices."""
        pairs = [(size, t) for size, t in zip(self.sizes, self.kinds.values(), strict=True)]
        return sum(s * t.accepted for s, t in pairs) / sum(s * t.asked for s, t in pairs)

    @property
    def rejections(self) -> int:
        """How many counted requests were refused."""
        return sum(t.asked - t.accepted for t in self.kinds.values())


def accepted_only(
    kinds: Sequence[Kind], demand: Demand, accepted: NDArray[np.bool_], warmup: int
) -> Measures:
    """Return the measures of a reference of which only the *accepted* requests are known."""
    return Measures(*_tallied(kinds, demand, accepted, warmup))


def measures(board: Board, demand: Demand, history: History, fits: Fits, warmup: int) -> Measures:
    """Return what *history* came to after the first *warmup* requests."""
    accepted = history.gpu != NOWHERE
    capacity, fragmentation = _causes(board.kinds, demand, history, fits, warmup)
    overall, over_time = _averages(board, demand, history, warmup)
    waited = history.placed_at[warmup:] - np.array(demand.times[warmup:])
    waited = waited[accepted[warmup:]]
    return Measures(
        *_tallied(board.kinds, demand, accepted, warmup),
        capacity,
        fragmentation,
        overall,
        over_time,
        Waiting(float((waited > 0).mean()), float(waited.mean()), float(np.quantile(waited, 0.99)))
        if waited.any()
        else None,
        (
            float(np.median(history.decision_ns)) / 1e3,
            float(np.quantile(history.decision_ns, 0.99)) / 1e3,
        )
        if len(history.decision_ns)
        else None,
    )


def _tallied(
    kinds: Sequence[Kind], demand: Demand, accepted: NDArray[np.bool_], warmup: int
) -> tuple[dict[str, Tally], tuple[int, ...]]:
    asked = np.array(demand.kinds[warmup:])
    counts = np.bincount(asked, minlength=len(kinds))
    served = np.bincount(asked[accepted[warmup:]], minlength=len(kinds))
    tallies = {k.name: Tally(int(counts[at]), int(served[at])) for at, k in enumerate(kinds)}
    return tallies, tuple(kind.size for kind in kinds)


def _causes(
    kinds: Sequence[Kind], demand: Demand, history: History, fits: Fits, warmup: int
) -> tuple[float, float]:
    """Return how many refusals are for want of capacity, and how many for fragmentation.

    Where there are more than the test can afford, evenly spread ones stand for all.
    """
    asked, times = np.array(demand.kinds), np.array(demand.times)
    accepted = history.gpu != NOWHERE
    (refused,) = np.nonzero(~accepted[warmup:])
    if not len(refused):
        return 0.0, 0.0
    looked_at = refused[:: -(-len(refused) // fits.affordable)] + warmup
    live = np.empty((len(looked_at), len(kinds)), np.int64)
    leaves_at = history.placed_at + np.array(demand.lifetimes)
    for kind in range(len(kinds)):
        ours = accepted & (asked == kind)
        came = np.searchsorted(np.sort(history.placed_at[ours]), times[looked_at], side="right")
        left = np.searchsorted(np.sort(leaves_at[ours]), times[looked_at], side="right")
        live[:, kind] = came - left
    live[np.arange(len(looked_at)), asked[looked_at]] += 1
    fitting = sum(fits(row) for row in live.tolist()) / len(looked_at) * len(refused)
    return len(refused) - fitting, fitting


def _averages(
    board: Board, demand: Demand, history: History, warmup: int
) -> tuple[Averages, tuple[Averages, ...]]:
    edges = np.linspace(demand.times[warmup], demand.times[-1], PERIODS + 1)
    gpus, slices = board.fleet.gpus, board.fleet.memory_slices
    active = board.measured(lambda _, state: int(state.mask != 0))
    used = board.measured(lambda _, state: state.mask.bit_count())
    unusable = board.measured(lambda g, state: -unusable_slices(g, state) if state.mask else 0)
    blocked = board.measured(lambda geometry, state: blocked_windows(geometry, state.mask))
    series = np.stack(
        [
            _mean_between(edges, history, values, scale)
            for values, scale in (
                (active, 1.0),
                (used, 1 / slices),
                (unusable, 1 / gpus),
                (blocked, 1 / gpus),
            )
        ]
    )
    over_time = tuple(Averages(*map(float, column)) for column in series.T)
    return Averages(*map(float, series.mean(axis=1))), over_time


def _mean_between(
    edges: NDArray[np.float64], history: History, values: NDArray[np.int64], scale: float
) -> NDArray[np.float64]:
    """Return the mean of a measure, summed over GPUs, in each stretch between *edges*.

    It is constant between changes, so its integral is linear there. It starts at 0: all four
    measures of an empty GPU are.
    """
    times = np.concatenate(([0.0], history.changed_at, [max(edges[-1], history.changed_at[-1])]))
    steps = values[history.after] - values[history.before]
    level = np.concatenate(([0], np.cumsum(steps)))
    integral = np.concatenate(([0.0], np.cumsum(level * np.diff(times))))
    at_edges = np.interp(edges, times, integral)
    return np.diff(at_edges) / np.diff(edges) * scale
