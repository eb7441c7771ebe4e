"""More requests on a fleet as it stands: one after the other, as a policy places them."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate

import msgspec
import numpy as np
from numpy.typing import NDArray

from extender.simulation.at_best import AtBest, Counts, most
from extender.simulation.chance import Chance
from extender.simulation.paired import Estimate, estimate
from extender.simulation.pickers import Cheapest, Pick
from extender.simulation.stand import Stand


class More(msgspec.Struct, frozen=True):
    """How many requests of a mix fit before the first that does not, over seeds.

    ``requests`` and ``slices`` are those that the policy places where there is room, and
    ``at_best_requests`` those of the same that fit if everything may be moved. ``first_refused``
    is the share of the seeds in which a kind is the first that finds no room.
    """

    shares: Mapping[str, float]
    seeds: int
    requests: Estimate
    fewest: int
    slices: Estimate
    at_best_requests: Estimate
    first_refused: Mapping[str, float]


def seated(there: Stand, counts: Counts) -> tuple[Stand, tuple[int, ...]]:
    """Place instances of each kind where there is room, the largest first.

    Returns the fleet then, and how many of each kind have found none.
    """
    pick, states = _picker(there), there.states.copy()
    order = sorted(range(len(counts)), key=lambda at: -there.kinds[at].size)
    left, held = list(counts), list(there.held)
    for kind in order:
        while left[kind] and (picked := pick(kind, states)) is not None:
            gpu, slot = picked
            states[gpu] = there.board.after[slot][states[gpu]]
            left[kind] -= 1
            held[kind] += bool(there.loose[gpu])
    return msgspec.structs.replace(there, states=states, held=tuple(held)), tuple(left)


def more(
    there: Stand,
    at_best: AtBest,
    homeless: Counts,
    shares: Sequence[float],
    seeds: Sequence[int],
) -> More:
    """Let requests come until one finds no room, for each seed; *shares* are of each kind.

    At best, the *homeless* come first.
    """
    requests, slices, best = [], [], []
    refused: Counter[str] = Counter()
    taken = [h + n for h, n in zip(there.held, homeless, strict=True)]
    for seed in seeds:
        placed, first = _until_refused(there, shares, seed)
        requests.append(len(placed))
        slices.append(sum(there.kinds[kind].size for kind in placed))
        refused[there.kinds[first].name] += 1
        best.append(max(len(placed), _at_best(at_best, taken, shares, seed)))
    return More(
        {kind.name: share for kind, share in zip(there.kinds, shares, strict=True) if share},
        len(seeds),
        estimate(requests),
        min(requests),
        estimate(slices),
        estimate(best),
        {name: count / len(seeds) for name, count in refused.most_common()},
    )


def _until_refused(there: Stand, shares: Sequence[float], seed: int) -> tuple[list[int], int]:
    """Return the kinds placed before the first that finds no room, and that one."""
    pick, states = _picker(there), there.states.copy()
    placed: list[int] = []
    for kind in arriving(shares, seed):
        picked = pick(kind, states)
        if picked is None:
            return placed, kind
        gpu, slot = picked
        states[gpu] = there.board.after[slot][states[gpu]]
        placed.append(kind)
    raise AssertionError("GPUs are finite")


def _at_best(at_best: AtBest, taken: Counts, shares: Sequence[float], seed: int) -> int:
    """Return how many of the same requests fit at best."""
    chance, totals = arriving(shares, seed), [np.array(taken)]

    def fits(number: int) -> bool:
        while len(totals) <= number:
            then = totals[-1].copy()
            then[next(chance)] += 1
            totals.append(then)
        return at_best(totals[number].tolist())

    return max(0, most(fits, _MOST))


_MOST = 10_000_000  # requests; more than any fleet has slices


def arriving(shares: Sequence[float], seed: int) -> Iterator[int]:
    """Yield kinds, as often as their *shares* say; the same seed brings the same."""
    chance, bounds = Chance(seed), list(accumulate(shares))
    while True:
        yield min(bisect_right(bounds, chance.uniform() * bounds[-1]), len(bounds) - 1)


def _picker(there: Stand) -> Callable[[int, NDArray[np.intp]], Pick | None]:
    """Return what picks places; where there is no GPU, it finds none."""
    return Cheapest(there.board).pick if len(there.states) else lambda kind, states: None
