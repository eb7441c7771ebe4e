"""How long a plan takes, from arrays of GPUs to named assignments, by fleet and by demand."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Sequence

from benchmarks.demands import plain, pooled
from benchmarks.fleets import grown
from benchmarks.joint.burst import SECONDS, Row, judged
from extender.packing.problem import Fleet, Problem, Request
from extender.packing.solve import Outcome, solve
from extender.packing.spread import Spread

SIZES = {
    200: (400, 4_000, 40_000, 400_000),
    2_000: (4_000, 40_000, 400_000),
    20_000: (40_000, 400_000),
}
"""GPUs by number of requests: the same requests on ever more GPUs."""

RESTRICTED = (40_000, 2_000)
"""(GPUs, requests)."""

SPREADS = ((Spread.SAME,), (Spread.ANY, Spread.SAME, Spread.DISTINCT))


def size(gpus: int, requests: int, *, repetitions: int, seed: int) -> Row:
    """Return how long a plan of a uniform mix takes on GPUs that are 70 % full."""
    fleet = grown(gpus, fill=0.7, gpus_per_node=8, seed=seed)
    wanted = list(plain(requests, random.Random(seed)))
    return {"gpus": gpus, "requests": requests, **timed(fleet, wanted, repetitions)}


def restricted(
    gpus: int, requests: int, *, spreads: Sequence[Spread], repetitions: int, seed: int
) -> Row:
    """Return the same with node restrictions, gangs and several vGPUs per VM.

    The requests are those of ``demands.pooled``.
    """
    fleet = grown(gpus, fill=0.7, gpus_per_node=8, seed=seed)
    wanted = pooled(fleet.nodes, requests, spreads, random.Random(seed))
    row: Row = {
        "gpus": gpus,
        "requests": len(wanted),
        "gangs": len({each.gang for each in wanted} - {None}),
        "with_several_vgpus": sum(len(each.wanted) > 1 for each in wanted),
        "spreads": [spread.value for spread in spreads],
    }
    return {**row, **timed(fleet, wanted, repetitions)}


def timed(fleet: Fleet, requests: Sequence[Request], repetitions: int) -> Row:
    """Return the time of a plan: the first, then the least and the median of the others.

    Timed is everything from the arrays (state and node of each GPU) to named assignments: counting
    types and classes, tables of bundles, model, proof, and the choice of nodes and GPUs. Wall time,
    and the processor's, which other work on the machine disturbs less. The judge is timed apart.
    """
    wall, processor = [], []
    outcome: Outcome | None = None
    problem = Problem(fleet, requests)
    for _ in range(repetitions + 1):
        fresh = Fleet(fleet.nodes, fleet.first, fleet.uuids, fleet.states, fleet.state)
        problem = Problem(fresh, requests)
        gc.collect()
        started, worked = time.perf_counter(), time.process_time()
        outcome = solve(problem, seconds=SECONDS, clock=time.monotonic)
        wall.append(time.perf_counter() - started)
        processor.append(time.process_time() - worked)
    assert outcome is not None
    started = time.perf_counter()
    worth = judged(problem, outcome.solution)
    check = time.perf_counter() - started
    if worth.levels != tuple(level.attained for level in outcome.levels):
        raise AssertionError("the plan is not worth what it claims")
    return {
        "states": len(fleet.states),
        "classes": outcome.classes,
        "variables": outcome.variables,
        "status": outcome.status.value,
        "levels": [[level.attained, level.bound] for level in outcome.levels],
        "first_s": round(wall[0], 3),
        "least_s": round(min(wall[1:]), 3),
        "median_s": round(statistics.median(wall[1:]), 3),
        "processor_least_s": round(min(processor[1:]), 3),
        "check_s": round(check, 3),
    }
