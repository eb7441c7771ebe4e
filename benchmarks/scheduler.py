"""A real kube-scheduler with Tangram, with an extender that decides nothing, and with none.

The pass-through extender (``benchmarks.passthrough``) has Tangram's own server, lets every node
pass, and binds. In rounds, the three take turns with the same pods on the same nodes, each with a
scheduler of its own, which asks about all nodes (``percentageOfNodesToScore: 100``):

* ``plain`` pods want no vGPU; the extenders are not asked about them;
* ``saturated``: as many pods of mixed profiles as there are, all at once;
* ``sustained``: so many a second for a while; ``backlog_*`` is the most that were waiting in the
  first and in the second half of it.

``algorithm_ms`` is kube-scheduler's own scheduling_algorithm_duration by attempt. ``cpu_*`` is what
each process worked, in milliseconds for each pod. With Tangram a pod is bound when its node's agent
has made its GPU instance; agents are simulated, in the process of the benchmark.

    python -m benchmarks.scheduler --nodes 1000
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import logging
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog
import uvloop

from benchmarks import populated, residents
from benchmarks.extenders import agents, renew
from benchmarks.fleet import RESOURCE, TYPES
from benchmarks.http import quantile_ms
from benchmarks.populated import GPUS, MODEL, NAMESPACE, RESOURCES, Vm
from benchmarks.processes import PASSTHROUGH, TANGRAM, Extender, processor_seconds
from extender.kubescheduler import compose
from extender.kubescheduler.compose import Wanted
from nodeagent.apiserver.protocol import GPU_NODES, PODS
from nodeagent.apiserver.reflector import Replaced, Upserted, reflect
from nodeagent.apiserver.rest import RestApi
from tests.e2e.controlplane.binaries import Missing, locate
from tests.e2e.controlplane.cluster import ControlPlane, control_plane
from tests.e2e.stack import install

MODES = {"tangram": TANGRAM, "passthrough": PASSTHROUGH, "none": ()}
WEIGHTS = (8, 3, 4, 3, 1, 1)  # of TYPES: most VMs want little
HTTP_TIMEOUT_SECONDS = 30.0
AT_ONCE = 16  # pods created, or deleted
WITHIN_SECONDS = 300.0
BACKLOG_EVERY_SECONDS = 0.25
_ALGORITHM = re.compile(
    r"^scheduler_scheduling_algorithm_duration_seconds_(sum|count) ([0-9.e+-]+)$", re.MULTILINE
)

Row = dict[str, Any]


class _PodSpec(msgspec.Struct, frozen=True, rename="camel"):
    node_name: str = ""


class _Pod(msgspec.Struct, frozen=True):
    spec: _PodSpec = _PodSpec()


class Bench:
    """A control plane with GPU nodes, and the pods that are sent through its scheduler."""

    def __init__(self, plane: ControlPlane, api: RestApi, directory: Path, seed: int) -> None:
        self._plane = plane
        self._api = api
        self._directory = directory
        self._chance = random.Random(seed)
        self._numbers = itertools.count()
        self._bound: dict[str, float] = {}
        self._changed = asyncio.Event()

    async def prepare(self, nodes: int) -> Sequence[str]:
        """Make the nodes, empty, and return their names."""
        await install(self._plane)
        site = populated.drawn(nodes, 0, pending=0, seed=1)
        site.cordoned.clear()
        site.leaseless.clear()
        slots = {
            resource: str(MODEL.geometry.by_id[id].fits_at_once * GPUS)
            for id, resource in RESOURCES.items()
        }
        room = {"cpu": "128", "memory": "1Ti", "pods": "250"}
        await residents.create(self._api, site, offers=slots | room)
        return tuple(site.nodes)

    async def follow(self) -> None:
        """Note when each pod was seen to be bound, until cancelled."""
        decode = msgspec.json.Decoder(_Pod).decode
        changes = reflect(self._api, PODS, namespace=NAMESPACE, read=lambda each: decode(each.raw))
        async with contextlib.aclosing(changes):
            async for change in changes:
                objects = (
                    change.objects
                    if isinstance(change, Replaced)
                    else (change.object,)
                    if isinstance(change, Upserted)
                    else ()
                )
                for each in objects:
                    if isinstance(each.read, _Pod) and each.read.spec.node_name:
                        self._bound.setdefault(each.name, time.perf_counter())
                self._changed.set()

    async def in_mode(self, mode: str, *, pods: int, seconds: float, per_second: float) -> Row:
        """Run all scenarios with one kind of extender."""
        directory = self._directory / f"{mode}-{next(self._numbers)}"
        directory.mkdir()
        async with contextlib.AsyncExitStack() as stack:
            configuration: Mapping[str, Any] = {"percentageOfNodesToScore": compose.ALL_NODES}
            extender = None
            if MODES[mode]:
                extender = Extender(directory, self._plane.kubeconfig("admin"), MODES[mode])
                await stack.enter_async_context(extender.running())
                await extender.ready(WITHIN_SECONDS)
                configuration = compose.patch(_wanted(extender.url))
            await self._plane.start_scheduler(configuration)
            stack.push_async_callback(self._plane.stop_scheduler)
            await self._batch(20, extender, _wants_nothing)  # the scheduler's caches are warm then
            return {
                "plain": await self._batch(pods, extender, _wants_nothing),
                "saturated": await self._batch(pods, extender, self._wants),
                "sustained": await self._paced(seconds, per_second, extender),
            }

    def _wants(self) -> str:
        (vgpu,) = self._chance.choices(TYPES, WEIGHTS)
        return RESOURCE.format(vgpu)

    async def _batch(self, count: int, extender: Extender | None, wants: Callable[[], str]) -> Row:
        names = self._names(count)
        async with self._measured(extender, count) as row:
            began = time.perf_counter()
            await self._create(names, wants)
            await self._all_bound(names)
            row["pods_per_s"] = round(count / (max(self._bound[name] for name in names) - began), 1)
        await self._clear(names)
        return row

    async def _paced(self, seconds: float, per_second: float, extender: Extender | None) -> Row:
        names = self._names(round(seconds * per_second))
        created: dict[str, float] = {}
        backlog: list[int] = []

        async def create(name: str) -> None:
            await self._api.create(PODS, _pod(name, self._wants()), namespace=NAMESPACE)
            created[name] = time.perf_counter()

        async def look() -> None:
            while True:
                backlog.append(len(created.keys() - self._bound.keys()))
                await asyncio.sleep(BACKLOG_EVERY_SECONDS)

        async with self._measured(extender, len(names)) as row:
            looking = asyncio.create_task(look(), name="backlog")
            began = time.perf_counter()
            async with asyncio.TaskGroup() as tasks:
                for index, name in enumerate(names):
                    await asyncio.sleep(max(0.0, began + index / per_second - time.perf_counter()))
                    tasks.create_task(create(name), name=f"create-{name}")
            row["created_per_s"] = round(len(names) / (time.perf_counter() - began), 1)
            looking.cancel()
            await self._all_bound(names)
        half = len(backlog) // 2
        waited = sorted(max(0.0, self._bound[name] - created[name]) for name in names)
        row |= {
            "backlog_first": max(backlog[:half], default=0),
            "backlog_second": max(backlog[half:], default=0),
            "bound_p50_ms": quantile_ms(waited, 0.5),
            "bound_p99_ms": quantile_ms(waited, 0.99),
        }
        await self._clear(names)
        return row

    def _names(self, count: int) -> Sequence[str]:
        return [f"vm-{next(self._numbers):06}" for _ in range(count)]

    async def _create(self, names: Sequence[str], wants: Callable[[], str]) -> None:
        gate = asyncio.Semaphore(AT_ONCE)

        async def create(name: str) -> None:
            async with gate:
                await self._api.create(PODS, _pod(name, wants()), namespace=NAMESPACE)

        await asyncio.gather(*map(create, names))

    async def _all_bound(self, names: Sequence[str]) -> None:
        async with asyncio.timeout(WITHIN_SECONDS):
            while not self._bound.keys() >= set(names):
                self._changed.clear()
                await self._changed.wait()

    async def _clear(self, names: Sequence[str]) -> None:
        """Delete the pods, and wait until no plan has anything of them."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def delete(name: str) -> None:
            async with gate:
                await self._api.delete(PODS, name, namespace=NAMESPACE, grace_seconds=0)

        await asyncio.gather(*map(delete, names))
        async with asyncio.timeout(WITHIN_SECONDS):
            token = ""
            while True:
                page = await self._api.list(GPU_NODES, continue_token=token)
                if any(b'"assignments":[{' in raw for raw in page.items):
                    await asyncio.sleep(0.5)  # and the same page again
                    continue
                token = page.continue_token
                if not token:
                    return

    @contextlib.asynccontextmanager
    async def _measured(self, extender: Extender | None, pods: int) -> AsyncIterator[Row]:
        """Count what the scheduler and each process do during the block."""
        pids = {
            name.removeprefix("kube-"): process.pid
            for name, process in self._plane.processes.items()
            if process.pid
        }
        if extender is not None:
            pids["extender"] = extender.pid
        row: Row = {}
        worked = {name: processor_seconds(pid) for name, pid in pids.items()}
        seconds, attempts = await self._algorithm()
        yield row
        seconds_then, attempts_then = await self._algorithm()
        row["attempts"] = round(attempts_then - attempts)
        row["algorithm_ms"] = round(
            1000 * (seconds_then - seconds) / max(1, attempts_then - attempts), 3
        )
        for name, pid in pids.items():
            row[f"cpu_{name}"] = round(1000 * (processor_seconds(pid) - worked[name]) / pods, 2)

    async def _algorithm(self) -> tuple[float, float]:
        """Return the seconds of the scheduler's algorithm so far, and of how many attempts."""
        url = f"{self._plane.scheduler_url}/metrics"
        async with self._plane.client() as http, http.get(url) as answer:
            found = dict(_ALGORITHM.findall(await answer.text()))
        return float(found.get("sum", 0)), float(found.get("count", 0))


def _wanted(url: str) -> Wanted:
    return Wanted(
        url=url,
        http_timeout_seconds=HTTP_TIMEOUT_SECONDS,
        verbs=("filter", "prioritize", "bind"),
        resources=dict.fromkeys(RESOURCES.values(), False),
    )


def _wants_nothing() -> str:
    return ""


def _pod(name: str, resource: str) -> Mapping[str, Any]:
    body = residents.pod(Vm(name, wanted=resource))
    if not resource:
        body["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "100m"}}
    return body


async def measure(
    nodes: int, *, pods: int, rounds: int, seconds: float, per_second: float, directory: Path
) -> Row:
    """Return what every round found, by mode, and the medians beside each other."""
    binaries = locate()
    if isinstance(binaries, Missing):
        raise SystemExit(f"skipped: {binaries.reason}")
    logs = directory / "controlplane"
    logs.mkdir()
    async with (
        control_plane(binaries, directory=logs) as plane,
        RestApi(kubeconfig=plane.kubeconfig("admin"), connections=64) as api,
        contextlib.AsyncExitStack() as stack,
    ):
        bench = Bench(plane, api, directory, seed=1)
        names = await bench.prepare(nodes)
        await stack.enter_async_context(agents(api))
        background = [
            asyncio.create_task(renew(api, names), name="renew"),
            asyncio.create_task(bench.follow(), name="follow"),
        ]
        found: dict[str, list[Row]] = {mode: [] for mode in MODES}
        try:
            for turn in range(rounds):
                order = list(MODES)[turn % 3 :] + list(MODES)[: turn % 3]
                for mode in order:
                    print(f"round {turn + 1}, {mode}", file=sys.stderr)
                    row = await bench.in_mode(
                        mode, pods=pods, seconds=seconds, per_second=per_second
                    )
                    found[mode].append(row)
        finally:
            for task in background:
                task.cancel()
    medians = {mode: _medians(rows) for mode, rows in found.items()}
    return {
        "nodes": nodes,
        "pods": pods,
        "rounds": rounds,
        "median": medians,
        "tangram_to_passthrough": _ratios(
            medians, "passthrough", ("saturated", "sustained"), ("algorithm_ms", "pods_per_s")
        ),
        "tangram_to_none": _ratios(medians, "none", ("plain",), ("algorithm_ms", "pods_per_s")),
        "each": found,
    }


def _medians(rows: Sequence[Row]) -> Row:
    return {
        scenario: {
            what: round(statistics.median(row[scenario][what] for row in rows), 3)
            for what in rows[0][scenario]
        }
        for scenario in rows[0]
    }


def _ratios(
    medians: Mapping[str, Row], other: str, scenarios: Sequence[str], figures: Sequence[str]
) -> Row:
    return {
        scenario: {
            what: round(medians["tangram"][scenario][what] / medians[other][scenario][what], 2)
            for what in figures
            if medians[other][scenario].get(what)
        }
        for scenario in scenarios
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print a JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        prog="benchmarks.scheduler",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--pods", type=int, default=400, help="of each batch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0, help="of the sustained load")
    parser.add_argument("--per-second", type=float, default=40.0, help="pods of that")
    options = parser.parse_args(argv)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory(prefix="tangram-scheduler-") as folder:
        work = measure(
            options.nodes,
            pods=options.pods,
            rounds=options.rounds,
            seconds=options.seconds,
            per_second=options.per_second,
            directory=Path(folder),
        )
        print(json.dumps(uvloop.run(work)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
