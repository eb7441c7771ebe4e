"""Where joint planning falls short, in sentences made from the figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.joint.burst import SECONDS, Row
from extender.packing.solve import Status
from extender.policy.values import PLAN_SECONDS

GOAL_SECONDS = 0.5
"""What a plan of a large fleet is to take at most, on one core."""

SERVED_GOAL_SECONDS = 0.05
"""Of processor, what :mod:`benchmarks.joint.served` is to take at most besides the solver."""


def losses(
    bursts: Sequence[Row], timed: Sequence[Row], served: Sequence[Row] = ()
) -> Sequence[str]:
    """Return a sentence for each way in which the figures fall short, or one that says none do."""
    found = [*_burst_losses(bursts), *_time_losses(timed), *_served_losses(served)]
    return found or ["Nothing measured here shows where."]


def _burst_losses(bursts: Sequence[Row]) -> Iterator[str]:
    seeds = sum(row["seeds"] for row in bursts)
    same = seeds - sum(row["joint_beats_largest"] for row in bursts)
    if same:
        yield (
            f"In {same} of {seeds} bursts largest-first admits no less than the joint plan: "
            "sorting is enough there."
        )
    for row in bursts:
        if row["joint_gangs"] < row["arrival_gangs"]:
            yield (
                f"{_which(row)}: slices count, not gangs; the joint plan admits "
                f"{row['joint_gangs']} gangs and {row['joint_slices']} slices, the order of "
                f"arrival {row['arrival_gangs']} and {row['arrival_slices']}."
            )
    for row in bursts:
        if row["optimal"] < row["seeds"]:
            yield (
                f"{_which(row)}, {row['seeds'] - row['optimal']} of {row['seeds']} "
                f"plans are not proven on every level in {SECONDS:g} s, "
                f"{row['seeds'] - row['admission_proven']} not in what they admit."
            )
    for row in bursts:
        if row["served_admits_as_joint"] < row["seeds"] or row["served_loses_to_largest"]:
            yield (
                f"{_which(row)}, {PLAN_SECONDS:g} s are too short for "
                f"{row['seeds'] - row['served_admits_as_joint']} of {row['seeds']} plans to admit "
                f"what {SECONDS:g} s do ({row['served_slices']} slices for "
                f"{row['joint_slices']}); {row['served_loses_to_largest']} admit less than "
                "largest-first."
            )


def _time_losses(timed: Sequence[Row]) -> Iterator[str]:
    for row in timed:
        size = f"{row['requests']:,} requests on {row['gpus']:,} GPUs"
        if "spreads" in row:
            size += f" with restrictions, vGPUs of a VM spread as {', '.join(row['spreads'])}"
        if row["status"] != Status.OPTIMAL.value:
            yield f"{size}: not proven on every level."
        if row["processor_least_s"] > GOAL_SECONDS:
            yield f"{size} take {row['processor_least_s']} s of one core, over {GOAL_SECONDS:g} s."
        elif row["first_s"] > GOAL_SECONDS:
            yield f"{size}: the first plan of a process takes {row['first_s']} s."


def _served_losses(served: Sequence[Row]) -> Iterator[str]:
    for row in served:
        which = f"{row['pods']} pods that wait on {row['nodes']:,} nodes"
        if row["reading_least_s"] > SERVED_GOAL_SECONDS:
            yield (
                f"{which}: reading the cluster takes {row['reading_least_s']} s of processor, over"
                f" {SERVED_GOAL_SECONDS:g} s."
            )
        if row["status"] != Status.OPTIMAL.value:
            yield f"{which}: the plan is not proven on every level."


def _which(row: Row) -> str:
    demand = row["demand"][0].upper() + row["demand"][1:]
    return f"{demand}, {row['fill']:.0%} full, {row['burst']} pods"
