"""A real kube-scheduler with Tangram, with an extender that decides nothing, and with none.

The pass-through extender (``benchmarks.passthrough``) has Tangram's own server, lets every node
pass, and binds. In rounds, the three take turns with the same pods on the same nodes, each with a
scheduler of its own, which asks about all nodes (``percentageOfNodesToScore: 100``):

* ``plain`` pods want no vGPU; the extenders are not asked about them;
* ``saturated``: pods of mixed profiles, all there before the scheduler starts, counted from when
  it says that it is ready, or from the first that is bound;
* ``sustained``: so many a second for a while; ``backlog_*`` is the most that were waiting in the
  first and in the second half of it.

``algorithm_ms`` is kube-scheduler's own scheduling_algorithm_duration by attempt. ``cpu_*`` is what
each process worked, in milliseconds for each pod; the ``saturated`` scheduler's with its start, and
``agents`` is the benchmark's own, in which they are simulated. With Tangram a pod is bound when its
node's agent has made its GPU instance. Of a burst, a pod that has room on more nodes than there are
pods waiting goes on at once; only where room is scarce is the burst planned as a whole first, and
its pods are attempted again. ``attempts`` says how often they were.

No round begins that would not end *within* so many seconds; the rounds that ended count.

    python -m benchmarks.scheduler --nodes 1000 --out benchmarks/results
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import structlog
import uvloop

from benchmarks import made
from benchmarks.extenders import agents, renew
from benchmarks.scheduler import report
from benchmarks.scheduler.meter import Row
from benchmarks.scheduler.trial import MODES, Bench, Load, following
from nodeagent.apiserver.rest import RestApi
from tests.e2e.controlplane.binaries import Missing, locate
from tests.e2e.controlplane.cluster import control_plane


class Clock:
    """Tells how long it has been, and says so with what goes on."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.doing = ""

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def say(self, what: str) -> None:
        """Report progress."""
        print(f"{self.seconds:5.0f} s  {self.doing}{what}", file=sys.stderr, flush=True)


@contextlib.asynccontextmanager
async def opened(nodes: int, directory: Path, clock: Clock) -> AsyncIterator[Bench]:
    """Run a control plane with so many nodes and their agents.

    Raises:
        SystemExit: its programs are not here.
    """
    binaries = locate()
    if isinstance(binaries, Missing):
        raise SystemExit(f"skipped: {binaries.reason}")
    logs = directory / "controlplane"
    logs.mkdir()
    async with (
        control_plane(binaries, directory=logs) as plane,
        RestApi(kubeconfig=plane.kubeconfig("admin"), connections=128) as api,
    ):
        bench = Bench(plane, api, directory, seed=1, say=clock.say)
        clock.say(f"making {nodes} nodes")
        names = await bench.prepare(nodes)
        renewing = asyncio.create_task(renew(api, names), name="renew")
        try:
            async with agents(api), following(bench):
                yield bench
        finally:
            renewing.cancel()


async def rounds(
    bench: Bench, load: Load, clock: Clock, *, most: int, within: float
) -> dict[str, list[Row]]:
    """Run rounds, and return the rows of those that ended, by mode.

    Raises:
        SystemExit: not even one ended in time.
    """
    found: dict[str, list[Row]] = {mode: [] for mode in MODES}
    longest = 0.0
    try:
        async with asyncio.timeout(max(0.0, within - clock.seconds)):
            for turn in range(most):
                if clock.seconds + longest > within:
                    clock.say(f"no time for round {turn + 1} of {most}")
                    break
                began, rows = clock.seconds, {}
                order = [*MODES][turn % 3 :] + [*MODES][: turn % 3]
                for mode in order:
                    clock.doing = f"round {turn + 1} of {most}, {mode}: "
                    clock.say("starting")
                    rows[mode] = await bench.in_mode(mode, load)
                clock.doing = ""
                for mode, row in rows.items():
                    found[mode].append(row)
                longest = max(longest, clock.seconds - began)
    except TimeoutError:
        clock.say(f"cut off after {within:g} s")
    if not found["tangram"]:
        raise SystemExit(f"no round ended within {within:g} s")
    return found


async def measure(nodes: int, load: Load, *, most: int, within: float) -> report.Result:
    """Return what every round found."""
    clock = Clock()
    with tempfile.TemporaryDirectory(prefix="tangram-scheduler-") as folder:
        async with opened(nodes, Path(folder), clock) as bench:
            found = await rounds(bench, load, clock, most=most, within=within)
            return report.Result(
                made=made.here(),
                nodes=nodes,
                pods=load.pods,
                seconds=load.seconds,
                per_second=load.per_second,
                rounds=len(found["tangram"]),
                took_s=round(clock.seconds, 1),
                each=found,
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print a JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        prog="benchmarks.scheduler",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--pods", type=int, default=400, help="of each batch")
    parser.add_argument("--rounds", type=int, default=3, help="at most")
    parser.add_argument("--seconds", type=float, default=20.0, help="of the sustained load")
    parser.add_argument("--per-second", type=float, default=40.0, help="pods of that")
    parser.add_argument("--within", type=float, default=690.0, help="seconds for all of it")
    parser.add_argument("--out", type=Path, help="keep the result and its report in this folder")
    options = parser.parse_args(argv)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    load = Load(options.pods, options.seconds, options.per_second)
    work = measure(options.nodes, load, most=options.rounds, within=options.within)
    result = uvloop.run(work)
    if options.out:
        report.save(options.out, result)
    print(json.dumps(report.told(result)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
