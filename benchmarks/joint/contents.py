"""The report's sections, from the stored results alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.joint import plots
from benchmarks.joint.burst import SECONDS, Row
from benchmarks.joint.columns import (
    BURST,
    CERTAINTY,
    LYING,
    MODEL,
    TIMES,
    Column,
    field,
    levels,
    table,
    ways,
)
from benchmarks.joint.losses import GOAL_SECONDS, SERVED_GOAL_SECONDS, losses
from benchmarks.joint.stored import PARTS, Results
from benchmarks.reporting.page import Section, Table
from extender.policy.values import PLAN_SECONDS


def sections(results: Results, folder: Path) -> Iterator[Section]:
    """Yield the report's sections; plots are drawn into *folder*."""
    yield _introduction()
    yield _measured(results)
    timed = [*results.sizes, *results.mixed]
    yield Section(
        title="Where it does not win",
        text=tuple(losses(results.bursts, timed, results.served)),
    )
    for demand in dict.fromkeys(row["demand"] for row in results.bursts):
        yield _bursts(results.bursts, demand, folder)
    if results.sizes:
        yield _sizes(results.sizes, folder)
    if results.mixed:
        yield _mixed(results.mixed)
    if results.served:
        yield _served(results.served)


def _introduction() -> Section:
    return Section(
        title="What this is about",
        text=(
            "An NVIDIA GPU with MIG can be cut into hardware-isolated instances: an H100 has eight"
            " memory slices, and each instance size may begin only at certain slices. When many VMs"
            " (pods) come at once, Tangram does not place one after the other as they come, but"
            " plans all of them as one problem: which of them are admitted, on which GPU, at which"
            " slices. It maximises, in this order: the memory slices admitted of the highest"
            " priority, then of each lower one; then what the remaining free slices are still good"
            " for (the value); then the number of GPUs left unused. Each of these is a level. The"
            " solver (OR-Tools CP-SAT) also proves an upper bound for each level: where what is"
            " attained equals the bound, nothing better exists, and the plan is proven.",
            "It is compared with the two things one can do without a solver, by the same placement"
            " policy: one by one in the order of kube-scheduler's queue (by priority, then by"
            " arrival), and one by one with the largest first. The plan is made twice: with"
            f" {SECONDS:g} s, far more than most need, and within the {PLAN_SECONDS:g} s that"
            " tangram serve gives it, which is what a cluster gets. An independent checker judges"
            " every answer; an illegal one would end the benchmark.",
        ),
    )


_PARTS = {
    "bursts": "bursts on 100 GPUs",
    "sizes": "time by cluster size",
    "mixed": "restrictions, gangs, several vGPUs",
    "served": "from what the extender knows",
}


def _measured(results: Results) -> Section:
    rows = []
    for part in PARTS:
        if not getattr(results, part):
            continue
        made = results.made.get(part)
        if made is None:
            rows.append((_PARTS[part], *("not noted",) * 6))
            continue
        rows.append(
            (
                _PARTS[part],
                made.seeds,
                f"{made.cores} x {made.processor}",
                f"{made.load:g}",
                f"{made.python}, {made.ortools}",
                made.day,
                made.commit or "not noted",
            )
        )
    return Section(
        title="What was measured, and on what",
        text=(
            "Demands and fleets are drawn at random from seeds: the same seed is the same problem."
            " What a plan admits does not depend on the machine, unless time runs out; times do."
            " Where other work was going on (a load beyond the cores), the processor's time is what"
            " counts. Parts from before this was noted say so.",
        ),
        tables=(
            Table(
                ("part", "seeds", "machine", "load average", "Python, OR-Tools", "day", "commit"),
                tuple(rows),
            ),
        ),
    )


_DEMANDS = {
    "plain": "Each pod wants one instance, every size as likely as the others.",
    "priorities": "The same, each pod with one of three priorities. What counts is what is admitted"
    " of the highest priority first; the table has that, too.",
    "gangs": "Half of the pods, about, are in gangs of 2, 4 or 8 that want the same and are"
    " admitted whole or not at all. Slices are what is maximised, not gangs; the table has both.",
    "several vGPUs": "A quarter of the VMs want two or four instances on one node, on any of its"
    " GPUs.",
}


def _bursts(bursts: Sequence[Row], demand: str, folder: Path) -> Section:
    rows = [row for row in bursts if row["demand"] == demand]
    plot = f"plots/joint-{demand.replace(' ', '-').lower()}.svg"
    plots.gains(bursts, demand, folder / plot)
    extra: dict[str, tuple[str, str]] = {
        "priorities": ("first_priority", "of the highest priority"),
        "gangs": ("gangs", "gangs"),
    }
    bound: Column = ("proven bound", field("bound_first"))
    by_slices = [*BURST, *ways("slices"), *(() if demand == "priorities" else (bound,))]
    tables = [table(rows, by_slices)]
    if demand in extra:
        of, what = extra[demand]
        besides = (bound,) if of == "first_priority" else ()
        tables.append(table(rows, [*BURST[:2], *ways(of, f"{what}: "), *besides]))
    tables.append(table(rows, [*BURST[:2], *CERTAINTY]))
    return Section(
        title=f"Bursts: {demand}",
        text=(
            _DEMANDS[demand],
            "100 H100 in 25 nodes, so full before the burst; memory slices, means over the seeds."
            " The bound is what no plan could exceed on the first level, the slices of the highest"
            " priority there is. The last table counts the seeds in which the plan is better, or"
            " proven.",
        ),
        tables=tuple(tables),
        plots=(plot,),
    )


def _sizes(sizes: Sequence[Row], folder: Path) -> Section:
    plots.times(sizes, folder / "plots/joint-times.svg")
    said = []
    for requests in dict.fromkeys(row["requests"] for row in sizes):
        same = [row for row in sizes if row["requests"] == requests]
        if len(same) > 1:
            said.append(
                f"{requests:,} requests: {same[0]['processor_least_s']} s of processor on"
                f" {same[0]['gpus']:,} GPUs, {same[-1]['processor_least_s']} s on"
                f" {same[-1]['gpus']:,}."
            )
    return Section(
        title="Time by cluster size",
        text=(
            "GPUs in the same state are one class, and the model has a variable for each class and"
            " each set of instances that one of its GPUs could receive: so its size does not grow"
            " with the cluster. H100 that are 70 % full, 8 to a node; a uniform mix; the same"
            " requests on ever more GPUs. Timed is everything from arrays of GPUs to assignments by"
            " name. The first plan of a process also fills tables, which it keeps. The goal is"
            f" {GOAL_SECONDS:g} s on one core (dotted). {_judging(sizes)}",
            *said,
        ),
        tables=(
            table(
                sizes,
                [("requests", field("requests")), ("GPUs", field("gpus")), *MODEL, *TIMES],
            ),
        ),
        plots=("plots/joint-times.svg",),
    )


def _judging(sizes: Sequence[Row]) -> str:
    """Say what the checker takes besides, for the most requests there are."""
    most = max(row["requests"] for row in sizes)
    said = ", ".join(
        f"{row['check_s']:.2g} s on {row['gpus']:,} GPUs"
        for row in sizes
        if row["requests"] == most
    )
    return (
        "The checker, which judges each plan before it is followed, is not in these times: for"
        f" {most:,} requests it takes {said}."
    )


def _mixed(mixed: Sequence[Row]) -> Section:
    asked: tuple[Column, ...] = (
        ("GPUs", field("gpus")),
        ("requests", field("requests")),
        ("gangs", field("gangs")),
        ("VMs with several vGPUs", field("with_several_vgpus")),
        ("which lie on", lambda row: ", ".join(LYING[each] for each in row["spreads"])),
        ("attained, of the bound, by level", levels),
    )
    return Section(
        title="Node restrictions, gangs, several vGPUs for a VM",
        text=(
            "8 pools of nodes, 8 GPUs to a node; a request may go to all nodes, to one pool or to"
            " two. The levels are the slices of each priority, the value, and (negative) the GPUs"
            " newly used.",
        ),
        tables=(table(mixed, asked), table(mixed, [*asked[:2], asked[4], *MODEL, *TIMES])),
    )


def _served(served: Sequence[Row]) -> Section:
    return Section(
        title="From what the extender knows to a plan",
        text=(
            f"tangram serve gives a plan {PLAN_SECONDS:g} s, and the solver has what reading the"
            " cluster leaves of them: arrays are made from the views of all nodes, and what each"
            " pod may have from the nodes it was filtered with. This is done in a thread beside the"
            " hooks, which shares the interpreter with them, so the processor's time counts."
            f" Reading should take at most {SERVED_GOAL_SECONDS * 1000:g} ms of it. Nodes have 8"
            " H100 that chance has filled to about three quarters; pods want one instance, every"
            " size as likely.",
        ),
        tables=(
            table(
                served,
                (
                    ("nodes", field("nodes")),
                    ("GPUs", field("gpus")),
                    ("pods that wait", field("pods")),
                    ("placed", field("placed")),
                    ("proven", lambda r: "every level" if r["status"] == "optimal" else "no"),
                    ("median, s", field("median_s")),
                    ("least of processor, s", field("processor_least_s")),
                    ("of that reading the cluster, s", field("reading_least_s")),
                    ("first plan, processor, s", field("processor_first_s")),
                ),
            ),
        ),
    )
