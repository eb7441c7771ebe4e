"""The report on joint planning, in Markdown; all it says of figures is made from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.joint.burst import SECONDS, WAYS, Row
from extender.packing.solve import Status
from extender.policy.values import PLAN_SECONDS

GOAL_SECONDS = 0.5
"""What a plan of a large fleet is to take at most, on one core."""


def report(bursts: Sequence[Row], sizes: Sequence[Row], mixed: Sequence[Row]) -> str:
    """Return the report on bursts (``burst.summary``) and on timed plans (``sizes``)."""
    parts = [
        "# Joint planning\n",
        "Bursts on 100 H100 in 25 nodes; means over seeds, in memory slices. `arrival`: one by one "
        "in the order of kube-scheduler's queue; `largest`: one by one, largest first; `joint`: "
        f"CP-SAT with {SECONDS:g} s; `served`: the same with the {PLAN_SECONDS:g} s that `tangram "
        "serve` gives a plan. `bound_first` is the proven bound of the first level, "
        "`admission_proven` counts the seeds whose admitted slices are proven optimal on every "
        "priority, `optimal` those that are so on every level; `joint_beats_...` the seeds with "
        "more admitted slices at the first priority at which they differ; "
        "`served_admits_as_joint` the seeds where the shorter time admits as much, "
        "`served_as_joint` those where its plan is as good on every level.\n",
        "**Where it does not win.**\n",
        "\n".join(f"- {each}" for each in losses(bursts, [*sizes, *mixed])) + "\n",
        *_bursts(bursts),
        *_sizes(sizes),
        *_mixed(mixed),
    ]
    return "\n".join(parts)


def losses(bursts: Sequence[Row], timed: Sequence[Row]) -> Sequence[str]:
    """Return a sentence for each way in which the figures fall short, or one that says none do."""
    return [*_burst_losses(bursts), *_time_losses(timed)] or ["Nothing measured here shows where."]


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


def _which(row: Row) -> str:
    demand = row["demand"][0].upper() + row["demand"][1:]
    return f"{demand}, {row['fill']:.0%} full, {row['burst']} pods"


def _bursts(bursts: Sequence[Row]) -> Iterator[str]:
    slices = [f"{way}_slices" for way in WAYS]
    head = ["fill", "burst", "asked"]
    tail = [
        *("joint_beats_arrival", "joint_beats_largest", "served_admits_as_joint"),
        *("served_as_joint", "admission_proven", "optimal", "seeds", "slowest_s"),
    ]
    chapters = {
        "plain": [*head, *slices, "bound_first", *tail],
        "priorities": [
            *head,
            *(f"{way}_first_priority" for way in WAYS),
            "bound_first",
            *slices,
            *tail,
        ],
        "gangs": [*head, *(f"{way}_gangs" for way in WAYS), *slices, "bound_first", *tail],
        "several vGPUs": [*head, *slices, "bound_first", *tail],
    }
    for demand, columns in chapters.items():
        rows = [row for row in bursts if row["demand"] == demand]
        if rows:
            yield f"## Bursts: {demand}\n"
            yield table(rows, columns) + "\n"


_MODEL = ("states", "classes", "variables")
_TIMING = ("status", "first_s", "least_s", "median_s", "processor_least_s", "check_s")


def _sizes(sizes: Sequence[Row]) -> Iterator[str]:
    yield "## Size\n"
    yield (
        "A uniform mix on H100 that are 70 % full, 8 to a node; the same requests on ever more "
        "GPUs. Timed: from arrays to named assignments; `first_s` fills the tables of bundles, "
        "which the process keeps.\n"
    )
    for requests in dict.fromkeys(row["requests"] for row in sizes):
        same = [row for row in sizes if row["requests"] == requests]
        fewest, most = same[0], same[-1]
        if fewest["gpus"] < most["gpus"]:
            yield (
                f"- {requests:,} requests: {fewest['processor_least_s']} s of processor on "
                f"{fewest['gpus']:,} GPUs, {most['processor_least_s']} s on {most['gpus']:,}"
            )
    yield ""
    yield table(sizes, ["requests", "gpus", *_MODEL, *_TIMING]) + "\n"


def _mixed(mixed: Sequence[Row]) -> Iterator[str]:
    yield "## Node restrictions, gangs, several vGPUs per VM\n"
    yield (
        "8 pools of nodes, 8 GPUs to a node. `same`: the vGPUs of a VM share a GPU; `any` and "
        "`distinct`: they may, or must, lie on several GPUs of one node. `levels` shows what is "
        "proven: (attained, bound) of the slices of each priority, the value, and GPUs newly "
        "used.\n"
    )
    asked = ("gpus", "requests", "gangs", "with_several_vgpus", "spreads")
    yield table(mixed, [*asked, *_MODEL, "levels", *_TIMING]) + "\n"


def table(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """Return rows as a Markdown table."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(row.get(name, "")) for name in columns) + " |" for row in rows]
    return "\n".join(lines)
