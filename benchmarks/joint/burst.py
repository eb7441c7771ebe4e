"""Pods that arrive at once on 100 H100 (25 nodes), placed in four ways.

One by one in the queue's order; one by one with the largest first, both by the same policy;
jointly, with far more time than most plans take; and jointly within the time that ``tangram serve``
gives a plan. Every answer is judged by the checker.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.demands import DEMANDS
from benchmarks.fleets import grown
from extender.packing.check import Score, score, violations
from extender.packing.classes import condense
from extender.packing.greedy import arrival_order, largest_first, one_by_one
from extender.packing.problem import Problem, Solution
from extender.packing.seats import named
from extender.packing.solve import Status, solve
from extender.policy.values import PLAN_SECONDS

SECONDS = 5.0
"""The deadline of a joint plan here: far beyond what most take, so that a slow one shows."""

WAYS = ("arrival", "largest", "joint", "served")

Row = dict[str, Any]


def burst(demand: str, fill: float, count: int, seed: int) -> Row:
    """Return what each way of placing one burst admits, and what is proven of the joint plan."""
    fleet = grown(100, fill=fill, gpus_per_node=4, seed=seed)
    problem = Problem(fleet, list(DEMANDS[demand](count, random.Random(seed + 1_000_000))))
    condensed = condense(problem)
    started = time.perf_counter()
    outcome = solve(problem, seconds=SECONDS, clock=time.monotonic)
    took = time.perf_counter() - started
    served = solve(problem, seconds=PLAN_SECONDS, clock=time.monotonic)
    answers = {
        "arrival": named(problem, one_by_one(condensed, arrival_order(condensed))),
        "largest": named(problem, one_by_one(condensed, largest_first(condensed))),
        "joint": outcome.solution,
        "served": served.solution,
    }
    row: Row = {"demand": demand, "fill": fill, "burst": count, "seed": seed}
    row["asked"] = sum(problem.slices(request) for request in problem.requests)
    for name, answer in answers.items():
        worth = judged(problem, answer)
        row[name] = {
            "admitted": [slices for _, slices in worth.admitted],
            "levels": list(worth.levels),
            "gangs": len({r.gang for r in problem.requests if r.gang and r.id in _placed(answer)}),
        }
    row["status"] = outcome.status.value
    row["bounds"] = [level.bound for level in outcome.levels]
    row["joint"]["seconds"] = round(took, 4)
    return row


def judged(problem: Problem, answer: Solution) -> Score:
    """Return what a solution is worth; a violation ends the benchmark."""
    wrong = list(violations(problem, answer))
    if wrong:
        raise AssertionError(f"not a legal solution: {wrong[:3]}")
    return score(problem, answer)


def _placed(answer: Solution) -> set[str]:
    return {assignment.request for assignment in answer.assignments}


def summary(rows: Sequence[Row]) -> list[Row]:
    """Return one row for each demand, fill and burst: means over the seeds."""
    groups: dict[tuple[str, float, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["demand"], row["fill"], row["burst"]), []).append(row)
    return [
        {
            "demand": demand,
            "fill": fill,
            "burst": count,
            "seeds": len(group),
            "asked": _mean(row["asked"] for row in group),
            **{f"{way}_slices": _mean(sum(row[way]["admitted"]) for row in group) for way in WAYS},
            **{f"{way}_gangs": _mean(row[way]["gangs"] for row in group) for way in WAYS},
            **{
                f"{way}_first_priority": _mean(row[way]["admitted"][0] for row in group)
                for way in WAYS
            },
            **{
                f"joint_beats_{way}": sum(
                    row["joint"]["admitted"] > row[way]["admitted"] for row in group
                )
                for way in ("arrival", "largest")
            },
            "served_loses_to_largest": sum(
                row["served"]["admitted"] < row["largest"]["admitted"] for row in group
            ),
            "served_as_joint": sum(
                row["served"]["levels"] == row["joint"]["levels"] for row in group
            ),
            "served_admits_as_joint": sum(
                row["served"]["admitted"] == row["joint"]["admitted"] for row in group
            ),
            "bound_first": _mean(row["bounds"][0] for row in group),
            "optimal": sum(row["status"] == Status.OPTIMAL.value for row in group),
            "admission_proven": sum(_admission_proven(row) for row in group),
            "slowest_s": max(row["joint"]["seconds"] for row in group),
        }
        for (demand, fill, count), group in groups.items()
    ]


def _mean(values: Iterator[float]) -> float:
    return round(statistics.fmean(values), 1)


def _admission_proven(row: Row) -> bool:
    attained: list[int] = row["joint"]["admitted"]
    return bool(attained == row["bounds"][: len(attained)])
