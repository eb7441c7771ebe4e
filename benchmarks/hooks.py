"""How long filter and prioritize take over HTTP, beside a floor that decides nothing.

The floor is the same server with the same decoding: it looks each name up in a dict and fills the
same replies in the same proportions. Nodes have 8 simulated H100, filled at random; pods are
launchers of some 20 kB, each new, of types that fit and of such that fit nowhere. Before each pod
some nodes change, and a score of pods is chosen for but not bound. Both are asked by turns
(``benchmarks.turns``); threads change places as often as in ``serve``.

``sampled`` is the same with 500 of the names, as kube-scheduler samples them; ``handler`` reads,
decides and writes without HTTP; ``cached`` repeats a pod while nothing changes, with and without.
``first_ms`` is the first pod of a type that nodes offer, ``unforeseen_ms`` that of one for which
all nodes are to be judged. ``explaining`` is ``sampled`` while one explanation after the other is
worked out, without the pauses that the extender itself makes between them.

    python -m benchmarks.hooks --nodes 100,1000,5000,15000
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from benchmarks import made, sizes
from benchmarks.fleet import GPUS
from benchmarks.http import Times
from benchmarks.launchers import pod, question
from benchmarks.turns import FITTING, REJECTED, VERBS, Kind, Turns, no_times
from extender import wire

SAMPLE = 500  # of 5,000 nodes kube-scheduler asks about so many by default


async def over_http(turns: Turns, count: int, rounds: int) -> dict[str, Any]:
    """Measure hooks and floor with so many names in each request."""
    times = no_times()
    kinds = itertools.cycle((*FITTING, *REJECTED))
    for kind in itertools.islice(kinds, rounds):
        await turns.ask(kind, turns.names(count), times)
    hooks, floor = (
        {verb: each.told() for verb, each in times[side].items()} for side in ("hooks", "floor")
    )
    return {
        "names": min(count, len(turns.fleet.names)),
        **hooks,
        "floor": floor,
        "to_floor": {
            verb: {
                quantile.removesuffix("_ms"): round(value / floor[verb][quantile], 2)
                for quantile, value in hooks[verb].items()
            }
            for verb in VERBS
        },
    }


async def cached(turns: Turns, kind: Kind, count: int, rounds: int) -> dict[str, float]:
    """Measure filter for one pod again and again while nothing changes."""
    body = question(pod(turns.new_pod(), kind[0], amount=kind[1]), turns.names(count))
    times = Times()
    await turns.connections["hooks"].post("filter", body)
    for _ in range(rounds):
        await times.of(turns.connections["hooks"], "filter", body)
    return times.told()


async def explaining(turns: Turns, count: int, rounds: int) -> dict[str, Any]:
    """Measure hooks and floor while explanations are worked out in a thread."""
    service, took, enough = turns.fleet.service, Times(), asyncio.Event()

    async def explain() -> None:
        before = ""
        while not enough.is_set():
            latest = next(reversed(service.knowledge.requests.values())).pod
            if latest.uid == before:  # what it was told last is kept for a moment
                await asyncio.sleep(0.001)
                continue
            before = latest.uid
            with took.taken():
                await service.explainer.explain(latest.namespace, latest.name)

    working = asyncio.create_task(explain(), name="explain")
    found = await over_http(turns, count, rounds)
    enough.set()
    await working  # cancelled, it would go on in its thread beside what is measured next
    seconds = statistics.median(took.seconds) if took.seconds else None
    return {**found, "explanations": len(took.seconds), "explanation_p50_s": seconds}


def rejected_again(turns: Turns, count: int, rounds: int) -> dict[str, dict[str, float]]:
    """Measure reading, rejecting and writing, for one pod while nothing changes."""
    kind, times = REJECTED[0], Times()
    body = question(pod(turns.new_pod(), kind[0], amount=kind[1]), turns.names(count))
    for _ in range(rounds):
        with times.taken():
            wire.encode(turns.fleet.service.hooks.filter(wire.decode(body, wire.ExtenderArgs)))
    return {"filter": times.told()}


def handler(turns: Turns, count: int, rounds: int) -> dict[str, dict[str, float]]:
    """Measure reading, deciding and writing; the hook itself judges what has just changed."""
    hooks, times = turns.fleet.service.hooks, {verb: Times() for verb in VERBS}
    for kind in itertools.islice(itertools.cycle((*FITTING, *REJECTED)), rounds):
        launcher, names = pod(turns.new_pod(), kind[0], amount=kind[1]), turns.names(count)
        for verb, decide in (("filter", hooks.filter), ("prioritize", hooks.prioritize)):
            body = question(launcher, names)
            if verb == "filter":
                turns.catch_up()
                turns.fleet.renew()
                turns.fleet.hear(turns.fleet.some_changed(turns.changes))
            with times[verb].taken():
                wire.encode(decide(wire.decode(body, wire.ExtenderArgs)))
    return {verb: each.told() for verb, each in times.items()}


async def first(turns: Turns, kinds: Sequence[Kind]) -> float:
    """Return the median time of the first pod of each type, in milliseconds."""
    took = []
    for kind in kinds:
        times = no_times()
        await turns.ask(kind, turns.fleet.names, times)
        took += times["hooks"]["filter"].seconds
    return round(statistics.median(took) * 1000, 3)


async def measure(nodes: int, *, rounds: int, changes: int, seed: int) -> dict[str, Any]:
    """Return all that is measured at one size."""
    turns = Turns(nodes, changes=changes, seed=seed)
    async with turns.open():
        row = {
            "nodes": nodes,
            "gpus": nodes * GPUS,
            "changes_per_pod": changes,
            "rounds": rounds,
            "first_ms": await first(turns, FITTING),
            "unforeseen_ms": await first(turns, REJECTED),
            **await over_http(turns, nodes, rounds),
            "sampled": await over_http(turns, SAMPLE, rounds),
            "explaining": await explaining(turns, SAMPLE, rounds),
            "cached": {
                "all_names": await cached(turns, FITTING[0], nodes, rounds),
                "sampled": await cached(turns, FITTING[0], SAMPLE, rounds),
                "sampled_rejected": await cached(turns, REJECTED[0], SAMPLE, rounds),
            },
            "handler": {
                "all_names": handler(turns, nodes, rounds),
                "sampled": handler(turns, SAMPLE, rounds),
                "sampled_rejected": rejected_again(turns, SAMPLE, rounds),
            },
        }
    return {**row, "made": msgspec.to_builtins(made.here())}


def text(row: dict[str, Any]) -> str:
    """Return a table for people."""
    lines = [
        f"{row['nodes']} nodes x {GPUS} GPUs; the first pod of a type: {row['first_ms']} ms"
        f", unforeseen {row['unforeseen_ms']} ms"
    ]
    sample = f"{row['sampled']['names']} names"
    beside = f"{sample}, beside {row['explaining']['explanations']} explanations"
    parts = ((sample, row["sampled"]), (beside, row["explaining"]))
    for what, part in (("all names", row), *parts):
        for verb in VERBS:
            figures = (part[verb], part["floor"][verb], part["to_floor"][verb])
            lines.append(f"  {verb} of {what}")
            for quantile, *told in zip(figures[0], *map(_values, figures), strict=True):
                lines.append("    {:11} {:9.3f}  floor {:9.3f}  x {:5.2f}".format(quantile, *told))
    for what in ("cached", "handler"):
        for name, part in row[what].items():
            for verb, told in part.items() if what == "handler" else [("filter", part)]:
                shown = "  ".join(f"{key} {value:8.3f}" for key, value in told.items())
                lines.append(f"  {what:7} {verb:10} {name:16} {shown}")
    return "\n".join(lines)


def _values(told: dict[str, float]) -> list[float]:
    return list(told.values())


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print what was found at each size."""
    return sizes.main(
        argv,
        prog="benchmarks.hooks",
        description=__doc__,
        rounds=300,
        measure=measure,
        text=text,
    )


if __name__ == "__main__":
    sys.exit(main())
