"""Weights of the learned value, tuned on simulated demand by the cross-entropy method.

Each generation draws weight vectors around a mean, plays all of them on the same demands, and moves
the mean towards the best. What comes out is good for the demand it was tuned on; whether it is
better than ``default`` there is a question for :mod:`extender.simulation.guard`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from extender.packing.arrays import NEVER, ranks
from extender.packing.learned import coefficients, features, weights
from extender.packing.states import Layout, precedence, shape, shapes
from extender.packing.value import MILLIONTHS
from extender.policy import Policy, PolicyName, Weights
from extender.simulation.board import Board
from extender.simulation.chance import Chance
from extender.simulation.contenders import of_policy
from extender.simulation.demand import Mixed, poisson
from extender.simulation.experiment import Stage
from extender.simulation.fleet import Fleet, Kind
from extender.simulation.lifetimes import lifetime
from extender.simulation.pickers import Cheapest
from extender.simulation.replay import NOWHERE, replay


class Effort(msgspec.Struct, frozen=True, kw_only=True):
    """How much is tried. Each vector's fitness is a mean over ``seeds`` demands at ``load``.

    ``spread`` scales how far from the first mean the search begins.
    """

    generations: int = 35
    vectors: int = 50
    elite: int = 10
    seeds: int = 4
    arrivals: int = 12_000
    warmup: int = 2_000
    load: float = 0.95
    seed: int = 900_000
    spread: float = 1.0


_KEPT = 0.3  # of the old mean and deviation, in each generation
_LEAST_DEVIATION = 0.01


def train(
    fleet: Fleet,
    kinds: Sequence[Kind],
    shares: Sequence[float],
    effort: Effort,
    progress: Callable[[int, float], None],
    *,
    start: Weights | None = None,
) -> Weights:
    """Return weights for a fleet of one model; *progress* hears each generation's best fitness.

    The search begins at *start*, or else at a guess from the demanded slices.
    """
    (group,) = fleet.groups
    trial = _Trial(fleet, kinds, shares, effort)
    mean, deviation = _first_guess(fleet, kinds, shares)
    deviation *= effort.spread
    if start is not None:
        mean = np.array(coefficients(group.geometry, start))
    chance = Chance(effort.seed)
    for generation in range(effort.generations):
        vectors = [mean] + [
            mean + deviation * np.array([chance.normal() for _ in mean])
            for _ in range(effort.vectors - 1)
        ]
        fitness = np.array(list(trial.fitness(vectors, generation)))
        best = np.stack([vectors[at] for at in np.argsort(-fitness)[: effort.elite]])
        mean = _KEPT * mean + (1 - _KEPT) * best.mean(axis=0)
        deviation = _KEPT * deviation + (1 - _KEPT) * best.std(axis=0) + _LEAST_DEVIATION
        progress(generation + 1, float(fitness.max()))
    return weights(group.geometry, mean.tolist())


def _first_guess(
    fleet: Fleet, kinds: Sequence[Kind], shares: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a first mean, by demanded slices, and how far to look around it."""
    geometry = fleet.groups[0].geometry
    known = shapes(geometry)
    several = sum(len(each.starts) > 1 for each in known)
    mean = np.zeros(len(known) + several + 4)
    deviation = np.ones(len(mean))
    deviation[-4:-1] = 0.5  # the times until something is empty
    for kind, share in zip(kinds, shares, strict=True):
        profile = kind.profiles[0]
        assert profile is not None
        mean[known.index(shape(profile))] += 2 * share * profile.size
    return mean, deviation


class _Trial:
    """Plays weight vectors on the demands of a generation."""

    def __init__(
        self, fleet: Fleet, kinds: Sequence[Kind], shares: Sequence[float], effort: Effort
    ) -> None:
        geometry = fleet.groups[0].geometry
        unweighted = Policy(PolicyName.LEARNED, weights=weights(geometry, _zeros(fleet)))
        self._board = of_policy(unweighted).board(fleet, kinds)
        layouts = [state for _, state in self._board.states if isinstance(state, Layout)]
        self._features = np.array([features(geometry, layout) for layout in layouts])
        self._sizes = np.array([kind.size for kind in kinds])
        self._effort = effort
        self._stage = Stage(
            fleet,
            tuple(kinds),
            tuple(shares),
            lambda seed: poisson(
                kinds,
                [Mixed(tuple(shares))],
                lifetime("exponential"),
                arrivals=effort.warmup + effort.arrivals,
                slices=fleet.memory_slices,
                load=effort.load,
                seed=seed,
            ),
        )

    def fitness(self, vectors: Sequence[NDArray[np.float64]], generation: int) -> Iterator[float]:
        """Yield for each vector the mean of request and slice acceptance."""
        first = self._effort.seed + 10 * generation
        demands = [self._stage.demand(first + at) for at in range(self._effort.seeds)]
        asked = [np.array(demand.kinds[self._effort.warmup :]) for demand in demands]
        for vector in vectors:
            board = by_values(self._board, valued(self._features, vector))
            total = 0.0
            for demand, kinds in zip(demands, asked, strict=True):
                gpus = replay(board, Cheapest(board), demand).gpu[self._effort.warmup :]
                accepted, sizes = gpus != NOWHERE, self._sizes[kinds]
                total += (accepted.mean() + sizes[accepted].sum() / sizes.sum()) / 2
            yield total / len(demands)


def _zeros(fleet: Fleet) -> list[float]:
    known = shapes(fleet.groups[0].geometry)
    return [0.0] * (len(known) + sum(len(each.starts) > 1 for each in known) + 4)


def valued(table: NDArray[np.float64], vector: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the value of each state, given its features and the weights."""
    return np.rint(MILLIONTHS * (table @ vector)).astype(np.int64)


def by_values(board: Board, values: NDArray[np.int64]) -> Board:
    """Return *board* as it would be if each state were worth that much, ties by precedence."""
    after = np.array(board.after)
    ahead = np.array([precedence(state) for _, state in board.states])
    ranked, slots = [], []
    for kind in board.kinds:
        ours = np.array(
            [
                at
                for at, (group, profile_id, _) in enumerate(board.slots)
                if (served := kind.profiles[group]) is not None and served.id == profile_id
            ]
        )
        then = after[ours]
        worth = np.where(then != NEVER, values[then], values.min() - 1)
        best = worth.argmax(axis=0)  # the first of equals, in the driver's order
        possible = (then != NEVER).any(axis=0)
        cost = np.where(possible, values - worth.max(axis=0), 0)
        ranked.append(ranks(cost, ahead, possible))
        slots.append(np.where(possible, ours[best], NEVER).tolist())
    return msgspec.structs.replace(board, rank=tuple(ranked), slot=slots)
