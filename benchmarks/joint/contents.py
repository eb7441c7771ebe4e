"""The report's sections, from the stored results alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.joint import plots
from benchmarks.joint.burst import SECONDS, Row
from benchmarks.joint.losses import GOAL_SECONDS, SERVED_GOAL_SECONDS, losses
from benchmarks.joint.stored import PARTS, Results
from benchmarks.reporting.page import Section, Table
from extender.policy.values import PLAN_SECONDS

Column = tuple[str, Callable[[Row], str]]
"""A head, and what stands below it in a row."""


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
            rows.append((_PARTS[part], *("not noted",) * 5))
            continue
        rows.append(
            (
                _PARTS[part],
                made.seeds,
                f"{made.cores} x {made.processor}",
                f"{made.load:g}",
                f"{made.python}, {made.ortools}",
                made.day,
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
                ("part", "seeds", "machine", "load average", "Python, OR-Tools", "day"),
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
    bound: Column = ("proven bound", _text("bound_first"))
    by_slices = [*_BURST, *_ways("slices"), *(() if demand == "priorities" else (bound,))]
    tables = [_table(rows, by_slices)]
    if demand in extra:
        of, what = extra[demand]
        besides = (bound,) if of == "first_priority" else ()
        tables.append(_table(rows, [*_BURST[:2], *_ways(of, f"{what}: "), *besides]))
    tables.append(_table(rows, [*_BURST[:2], *_CERTAINTY]))
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


def _text(name: str, unit: str = "") -> Callable[[Row], str]:
    def shown(row: Row) -> str:
        value = row.get(name, "")
        return f"{value:,}{unit}" if isinstance(value, int | float) else str(value)

    return shown


_BURST: tuple[Column, ...] = (
    ("GPUs full", lambda row: f"{row['fill']:.0%}"),
    ("pods", _text("burst")),
    ("slices asked for", _text("asked")),
)

_WAYS = {
    "arrival": "one by one, as they come",
    "largest": "one by one, largest first",
    "joint": f"together, {SECONDS:g} s",
    "served": f"together, {PLAN_SECONDS:g} s",
}


def _ways(of: str, what: str = "") -> Iterator[Column]:
    return ((f"{what}{label}", _text(f"{way}_{of}")) for way, label in _WAYS.items())


def _of_seeds(name: str) -> Callable[[Row], str]:
    return lambda row: f"{row[name]} of {row['seeds']}"


_CERTAINTY: tuple[Column, ...] = (
    ("together admits more than as they come", _of_seeds("joint_beats_arrival")),
    ("than largest first", _of_seeds("joint_beats_largest")),
    (f"{PLAN_SECONDS:g} s admit as much as {SECONDS:g} s", _of_seeds("served_admits_as_joint")),
    ("and are as good on every level", _of_seeds("served_as_joint")),
    ("admission proven", _of_seeds("admission_proven")),
    ("every level proven", _of_seeds("optimal")),
    ("slowest plan, s", _text("slowest_s")),
)

_MODEL: tuple[Column, ...] = (
    ("different states of GPUs", _text("states")),
    ("classes in the model", _text("classes")),
    ("variables", _text("variables")),
)
_TIMES: tuple[Column, ...] = (
    ("proven", lambda row: "every level" if row["status"] == "optimal" else row["status"]),
    ("first plan, s", _text("first_s")),
    ("least, s", _text("least_s")),
    ("median, s", _text("median_s")),
    ("least of processor, s", _text("processor_least_s")),
    ("checking it, s", _text("check_s")),
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
            f" {GOAL_SECONDS:g} s on one core (dotted).",
            *said,
        ),
        tables=(
            _table(
                sizes,
                [("requests", _text("requests")), ("GPUs", _text("gpus")), *_MODEL, *_TIMES],
            ),
        ),
        plots=("plots/joint-times.svg",),
    )


def _mixed(mixed: Sequence[Row]) -> Section:
    asked: tuple[Column, ...] = (
        ("GPUs", _text("gpus")),
        ("requests", _text("requests")),
        ("gangs", _text("gangs")),
        ("VMs with several vGPUs", _text("with_several_vgpus")),
        ("which lie on", lambda row: ", ".join(_SPREADS[each] for each in row["spreads"])),
        ("attained, of the bound, by level", _levels),
    )
    return Section(
        title="Node restrictions, gangs, several vGPUs for a VM",
        text=(
            "8 pools of nodes, 8 GPUs to a node; a request may go to all nodes, to one pool or to"
            " two. The levels are the slices of each priority, the value, and (negative) the GPUs"
            " newly used.",
        ),
        tables=(_table(mixed, asked), _table(mixed, [*asked[:2], asked[4], *_MODEL, *_TIMES])),
    )


_SPREADS = {"any": "any GPUs of a node", "same": "the same GPU", "distinct": "distinct GPUs"}


def _levels(row: Row) -> str:
    return "; ".join(f"{attained:,} of {bound:,}" for attained, bound in row["levels"])


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
            _table(
                served,
                (
                    ("nodes", _text("nodes")),
                    ("GPUs", _text("gpus")),
                    ("pods that wait", _text("pods")),
                    ("placed", _text("placed")),
                    ("proven", lambda r: "every level" if r["status"] == "optimal" else "no"),
                    ("median, s", _text("median_s")),
                    ("least of processor, s", _text("processor_least_s")),
                    ("of that reading the cluster, s", _text("reading_least_s")),
                    ("first plan, processor, s", _text("processor_first_s")),
                ),
            ),
        ),
    )


def _table(rows: Sequence[Row], columns: Sequence[Column]) -> Table:
    return Table(
        tuple(head for head, _ in columns),
        tuple(tuple(shown(row) for _, shown in columns) for row in rows),
    )
