"""How long filter takes while binds wait and the watches bring changes, beside a quiet extender.

One scheduling cycle after the other goes through filter and prioritize; then its bind begins, on a
connection of its own, and waits until the node's agent has made the instance. The cluster is one of
our own in memory: a write takes 2 ms, agents realise after some seconds, and of the watch's events
half renew an agent's Lease and half change the health of a GPU. Everything is in one process.

    python -m benchmarks.churn --nodes 5000 --binds 400 --events 1000
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import logging
import random
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import structlog
import uvloop

from benchmarks.fleet import RESOURCE, KnownFleet
from benchmarks.http import Connection, Times, connected
from benchmarks.launchers import pod, question
from extender import wire
from extender.cli.garbage import collected_between_answers
from extender.cluster import KubernetesCluster
from extender.server import serving
from extender.service.ports import PlanConflict
from nodeagent.api import gpunode
from nodeagent.api.gpunode import Assignment, GpuNode, Plan, PodRef, Realized
from nodeagent.apiserver.memory import InMemoryApi

RENEWED_SECONDS = 10.0  # as agents renew their Leases
WRITE_SECONDS = 0.002  # of a plan to a kube-apiserver (measured)
TYPES = tuple(RESOURCE.format(vgpu) for vgpu in ("1-10C", "1-20C", "2-20C"))


class AgentsCluster(KubernetesCluster):
    """A cluster that writes what it is told to, and whose agents realise it after some seconds.

    ``nodes`` is what the API server holds; the ``fleet`` hears of what the agents report.
    """

    def __init__(self, *, realised_after: float, chance: random.Random) -> None:
        super().__init__(InMemoryApi())
        self.nodes: dict[str, GpuNode] = {}
        self.fleet: KnownFleet | None = None
        self._realised_after = realised_after
        self._chance = chance
        self._version = 1_000

    async def write_plan(
        self,
        node: GpuNode,
        *,
        add: Collection[Assignment] = (),
        remove: Collection[str] = (),
        hold: Collection[str] = (),
    ) -> GpuNode:
        """Write a plan, and have it realised."""
        await asyncio.sleep(WRITE_SECONDS)
        now = self.nodes[node.name]
        if now.metadata.generation != node.metadata.generation or hold:
            raise PlanConflict("another generation", refused=False)
        kept = [each for each in now.spec.assignments if each.id not in remove]
        written = self._written(now, spec=Plan((*kept, *add)))
        after = self._chance.uniform(0.0, 2.0) * self._realised_after
        ids = [each.id for each in add]
        asyncio.get_running_loop().call_later(after, self._realise, node.name, ids)
        return gpunode.decode(msgspec.json.encode(written))

    async def bind(
        self, pod: PodRef, node: str, annotations: Mapping[str, str], *, timeout: float
    ) -> None:
        """Bind."""
        await asyncio.sleep(WRITE_SECONDS)

    def _realise(self, name: str, ids: Sequence[str]) -> None:
        now = self.nodes[name].status
        realized = (*now.realized, *(Realized(id, "slot") for id in ids))
        generation = self.nodes[name].metadata.generation
        self._report(
            name, msgspec.structs.replace(now, realized=realized, observed_generation=generation)
        )

    def change_health(self, name: str) -> None:
        """Let the agent report one of the node's GPUs healthy, or not."""
        now = self.nodes[name].status
        at = self._chance.randrange(len(now.gpus))
        gpu = now.gpus[at]
        changed = msgspec.structs.replace(gpu, unhealthy="" if gpu.unhealthy else "xid-79")
        gpus = (*now.gpus[:at], changed, *now.gpus[at + 1 :])
        self._report(name, msgspec.structs.replace(now, gpus=gpus))

    def _report(self, name: str, status: gpunode.Inventory) -> None:
        written = self._written(self.nodes[name], status=status)
        assert self.fleet is not None
        self.fleet.hear([msgspec.json.encode(written)])

    def _written(self, now: GpuNode, **parts: Plan | gpunode.Inventory) -> GpuNode:
        self._version += 1
        metadata = msgspec.structs.replace(
            now.metadata,
            resource_version=str(self._version),
            generation=now.metadata.generation + ("spec" in parts),
        )
        written = msgspec.structs.replace(now, metadata=metadata, **parts)
        self.nodes[now.name] = written
        return written


class Churn:
    """A served extender, and what goes on around it."""

    def __init__(self, nodes: int, names: int, *, realised_after: float, seed: int) -> None:
        self._chance = random.Random(seed)
        self._cluster = AgentsCluster(realised_after=realised_after, chance=self._chance)
        self.fleet = KnownFleet(nodes, seed, self._cluster)
        self._cluster.fleet = self.fleet
        self._cluster.nodes = {n: v.node for n, v in self.fleet.service.knowledge.views.items()}
        self._names = min(names, nodes)
        self._pods = itertools.count()
        self._url = ""
        self.binds: set[asyncio.Task[None]] = set()
        self.bound = self.failed = self.events = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Connection]:
        """Serve the hooks, judge nodes in the background, and yield the scheduler's connection."""
        async with (
            collected_between_answers(),
            serving(self.fleet.service) as self._url,
            connected(self._url) as scheduler,
        ):
            background = [
                asyncio.create_task(self.fleet.service.keep_up(), name="keep-up"),
                asyncio.create_task(self._stay_current(), name="stay-current"),
            ]
            deque(self.fleet.service.knowledge.fleet.catching_up(at_once=64), maxlen=0)
            try:
                yield scheduler
            finally:
                for task in background:
                    task.cancel()

    async def _stay_current(self) -> None:
        """Renew Leases one after the other, all in RENEWED_SECONDS, until cancelled."""
        self.fleet.renew()
        names, at_once = self.fleet.names, 1 + len(self.fleet.names) // 1000
        for turn in itertools.count():
            for at in range(turn * at_once, (turn + 1) * at_once):
                self.fleet.service.knowledge.lease(names[at % len(names)], f"turn-{turn}")
            await asyncio.sleep(RENEWED_SECONDS * at_once / len(names))

    async def cycle(self, scheduler: Connection, times: Times, *, bind: bool) -> None:
        """Take one new pod through filter and prioritize; then begin its bind, or let it go."""
        index = next(self._pods)
        launcher = pod(f"vm-{index:06}", TYPES[index % len(TYPES)])
        uid = launcher["metadata"]["uid"]
        names = self._chance.sample(self.fleet.names, self._names)
        answer = await times.of(scheduler, "filter", question(launcher, names))
        filtered = msgspec.json.decode(answer, type=wire.FilterResult)
        assert not filtered.error
        passed = filtered.node_names or ()
        if len(passed) > 1:
            answer = await scheduler.post("prioritize", question(launcher, passed))
            scores = msgspec.json.decode(answer, type=tuple[wire.HostPriority, ...])
            passed = (max(scores, key=lambda each: each.score).host,)
        if not bind or not passed:
            self.fleet.service.knowledge.pod_gone(uid)
            return
        work = self._bind(launcher["metadata"], passed[0])
        task = asyncio.create_task(work, name=f"bind-{index}")
        self.binds.add(task)
        task.add_done_callback(self.binds.discard)

    async def _bind(self, metadata: Mapping[str, str], node: str) -> None:
        args = {
            "PodName": metadata["name"],
            "PodNamespace": metadata["namespace"],
            "PodUID": metadata["uid"],
            "Node": node,
        }
        async with connected(self._url) as connection:
            answer = await connection.post("bind", msgspec.json.encode(args))
        if msgspec.json.decode(answer, type=wire.BindingResult).error:
            self.failed += 1
        else:
            self.bound += 1

    async def bring_events(self, per_second: int) -> None:
        """Bring so many events a second, one by one as a watch does, until cancelled."""
        started, leases = time.perf_counter(), itertools.cycle(self.fleet.names)
        before = self.events
        while True:
            due = (time.perf_counter() - started) * per_second
            if self.events - before >= due:
                await asyncio.sleep(0.001)
                continue
            self.events += 1
            if self.events % 2:
                self.fleet.service.knowledge.lease(next(leases), str(self.events))
            else:
                self._cluster.change_health(self._chance.choice(self.fleet.names))
            await asyncio.sleep(0)


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
        while len(churn.binds) < binds:
            await churn.cycle(scheduler, Times(), bind=True)
        bringing = asyncio.create_task(churn.bring_events(events), name="events")
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
        "quiet": quiet,
        "busy": busy,
        "busy_to_quiet": {
            key.removesuffix("_ms"): round(busy[key] / quiet[key], 2) for key in quiet
        },
        "binds_in_flight": in_flight,
        "binds_per_second": round(bound / seconds, 1),
        "binds_failed": churn.failed,
        "events_per_second": round(brought / seconds),
    }


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
    options = parser.parse_args(argv)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
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
        print(json.dumps(uvloop.run(work)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
