"""How long filter takes while binds wait and the watches bring changes, beside a quiet extender.

One scheduling cycle after the other goes through filter and prioritize; then its bind begins, on a
connection of its own, and waits until the node's agent has made the instance. Who is refused, as a
pod of a burst is until the plan for all of them is made, comes back when woken; for each VM that is
bound another ends. The cluster is one of our own in memory (``benchmarks.agents``): a write takes 2
ms, agents realise after some seconds, and of the watch's events half renew an agent's Lease and
half change the health of a GPU.

``busy`` is with all that ``serve`` does in the background: sweep, reclaim, planner, preemption, the
telling of explanations and of pods that a kubelet refused. Some pods fit nowhere, and a few of
higher priority only where others are evicted: ``evicted`` counts these. ``planning`` and
``explaining`` are how long each of those took, and how many there were. Everything is in one
process. Left out is what needs a real API server: reading watches from sockets, Events, the
renewal of the leader's Lease.

    python -m benchmarks.churn --nodes 5000 --binds 400 --events 1000 --out FILE
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog
import uvloop

from benchmarks import made
from benchmarks.busy import TYPES, Churn
from benchmarks.http import Times, quantile_ms
from extender.cli.switching import threads_take_short_turns


async def measure(
    nodes: int,
    *,
    names: int,
    binds: int,
    events: int,
    pods: int,
    per_second: float,
    seed: int,
) -> dict[str, Any]:
    """Return filter's times without and with *binds* in flight and *events* a second."""
    realised_after = binds / per_second
    churn = Churn(nodes, names, realised_after=realised_after, seed=seed)
    loop = asyncio.get_running_loop()
    async with churn.open() as scheduler:

        async def cycles(count: int, *, bind: bool) -> Times:
            times, started = Times(), loop.time()
            for index in range(count):
                await asyncio.sleep(max(0.0, started + index / per_second - loop.time()))
                await churn.cycle(scheduler, times, bind=bind and len(churn.binds) < binds)
            return times

        await cycles(2 * len(TYPES), bind=False)  # every type's first pod
        quiet = (await cycles(pods, bind=False)).told()
        await churn.refuse(scheduler)
        async with churn.background():
            bringing = asyncio.create_task(churn.bring_events(events), name="events")
            filled_by = loop.time() + 3 * realised_after  # a slow machine never has as many
            while len(churn.binds) < binds and loop.time() < filled_by:
                await churn.cycle(scheduler, Times(), bind=True)
                await asyncio.sleep(0.25 / per_second)
            started, bound, brought = loop.time(), churn.bound, churn.events
            busy = (await cycles(pods, bind=True)).told()
            seconds, in_flight = loop.time() - started, len(churn.binds)
            bound, brought = churn.bound - bound, churn.events - brought
            bringing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await bringing
            await asyncio.gather(*churn.binds)
    return {
        "nodes": nodes,
        "names": min(names, nodes),
        "pods": pods,
        "quiet": quiet,
        "busy": busy,
        "busy_to_quiet": {
            key.removesuffix("_ms"): round(busy[key] / quiet[key], 2) for key in quiet
        },
        "binds_in_flight": in_flight,
        "binds_per_second": round(bound / seconds, 1),
        "binds_failed": churn.failed,
        "events_per_second": round(brought / seconds),
        "evicted": churn.evicted,
        "planning": _took(churn.planned),
        "explaining": _took(churn.explainer.seconds),
        "made": msgspec.to_builtins(made.here()),
    }


def _took(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    if not ordered:
        return {"count": 0}
    told = {f"p{share:g}_ms": quantile_ms(ordered, share / 100) for share in (50, 99)}
    return {"count": len(ordered), **told}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print a JSON object for each number of names."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        prog="benchmarks.churn",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--nodes", type=int, default=5000)
    parser.add_argument("--names", default="500,5000", help="in each request, separated by commas")
    parser.add_argument("--binds", type=int, default=400, help="in flight")
    parser.add_argument("--events", type=int, default=1000, help="of the watches, a second")
    parser.add_argument("--pods", type=int, default=400, help="of each measurement")
    parser.add_argument("--per-second", type=float, default=40.0, help="pods scheduled and bound")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="keep what was found in this file")
    options = parser.parse_args(argv)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    rows = []
    for names in map(int, options.names.split(",")):
        work = measure(
            options.nodes,
            names=names,
            binds=options.binds,
            events=options.events,
            pods=options.pods,
            per_second=options.per_second,
            seed=options.seed,
        )
        with threads_take_short_turns():
            rows.append(uvloop.run(work))
        print(json.dumps(rows[-1]), flush=True)
    if options.out:
        made.keep(options.out, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
