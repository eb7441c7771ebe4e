"""The cells of a recorded trace: its pods as they came, and drawn from it at a set load.

The trace itself is read where it lies. Of it, what is stored has the file's name and checksum, and
the counts of what became of its pods.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from benchmarks.quality.cells import LOADS, OURS, RIVALS, SEEDS, Cell
from extender.simulation.demand import Demand
from extender.simulation.repack import repack_test
from extender.simulation.scenario import Scenario, fleet_of, stage
from extender.simulation.traces import Rule, recorded

GROUP = "trace"
OTHERS = ("fgd", "first-fit", "kubernetes-default", "repack")
MODEL = "A100-80GB"
"""What every GPU of such a trace is taken for in the literature: none of openb's can be cut."""

LOADS_OF_PARTS = (0.6, *LOADS)
"""Where all ask for parts of a GPU. It holds one 4g at most, so a rule that makes many of them asks
for more GPUs than the slices tell."""

HELD_AT = (0.5, 0.9, 1.0)
"""Clusters just big enough, if instances could be moved at will, at so many of the arrivals."""


def traced(path: Path, *, small: bool = False) -> Iterator[Cell]:
    """Yield the cells of a trace: for each rule, all of it and only those who share a GPU.

    *small* takes seconds, for tests: one rule, few requests, and no weights to judge.

    Raises:
        MalformedTrace: if *path* cannot be read or is not such a trace.
    """
    pods = recorded(path)
    sharing = sum(pod.share < 1 for pod in pods)
    subsets = (False, True) if 0 < sharing < len(pods) else (False,)
    ours = OURS[:1] if small else OURS
    contenders = (*ours, *RIVALS, *OTHERS)
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()

    def cell(scenario: Scenario, seeds: Sequence[int]) -> Cell:
        return Cell(GROUP, scenario, contenders, tuple(seeds), path, checksum)

    for shared_only in subsets:
        loads = LOADS_OF_PARTS if shared_only or sharing == len(pods) else LOADS
        for rule in (Rule.CEIL,) if small else Rule:
            scenario = Scenario(model=MODEL, trace=path.name, rule=rule, shared_only=shared_only)
            for gpus in cluster_sizes(replace(scenario, trace=str(path))):
                yield cell(replace(scenario, gpus=gpus), SEEDS[:1])
            for load in loads:
                drawn = replace(scenario, load=load, resampled=True)
                if small:
                    yield cell(replace(drawn, gpus=8, arrivals=400, warmup=100), SEEDS[:3])
                else:
                    yield cell(drawn, SEEDS)


def cluster_sizes(scenario: Scenario) -> tuple[int, ...]:
    """Return how many GPUs hold, at the shares :data:`HELD_AT` of arrivals, all who would be there.

    Slices alone would not tell: a GPU holds one 4g at most.
    """
    on = stage(scenario)
    present, times = np.unique(
        present_at_arrivals(on.demand(0), len(on.kinds)), axis=0, return_counts=True
    )

    def held(gpus: int) -> float:
        fits = repack_test(fleet_of(replace(scenario, gpus=gpus)), on.kinds)
        return float(sum(n for row, n in zip(present.tolist(), times, strict=True) if fits(row)))

    most = int(present.sum(axis=1).max())
    arrivals = int(times.sum())
    needed = (bisect_left(range(1, most), share * arrivals, key=held) + 1 for share in HELD_AT)
    return tuple(dict.fromkeys(needed))


def present_at_arrivals(demand: Demand, kinds: int) -> NDArray[np.int64]:
    """Return how many of each kind are there after each arrival if none is refused.

    As (arrivals, kinds); who leaves at the very time of an arrival is gone.
    """
    asked, times = np.array(demand.kinds), np.array(demand.times)
    leaves_at = times + np.array(demand.lifetimes)
    return np.stack(
        [
            np.cumsum(asked == kind)
            - np.searchsorted(np.sort(leaves_at[asked == kind]), times, side="right")
            for kind in range(kinds)
        ],
        axis=1,
    )
