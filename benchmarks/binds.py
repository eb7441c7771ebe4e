"""How long binds take of which hundreds are in flight at once, over plain HTTP and with mutual TLS.

For each of so many pods filter and prioritize choose a node; then all are bound at the same moment,
each on a connection of its own, and end. The cluster is one of our own in memory
(``benchmarks.agents``): a write takes 2 ms, and agents make instances at once, or after so many
seconds by chance. Client and extender share one process and its processor, TLS of both included.

``opening`` are binds whose connections are made first, and counted, with TLS both certificates;
``kept`` go over connections that are there, as kube-scheduler's are for 90 s. ``p50_ms`` and
``p99_ms`` are from the moment at which all binds begin until a bind's answer, ``per_second`` is how
many there were in the time until the last one's, in the median round.

    python -m benchmarks.binds --nodes 1000 --binds 400
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import logging
import random
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog
import uvloop

from benchmarks import made
from benchmarks.agents import AgentsCluster
from benchmarks.fleet import RESOURCE, KnownFleet, ready
from benchmarks.http import Connection, connected, quantile_ms
from benchmarks.launchers import pod, question
from extender import wire
from extender.cli.garbage import collected_between_answers
from extender.cli.switching import threads_take_short_turns
from extender.server import Certificates, serving
from tests.e2e.controlplane.certificates import Authority

TYPES = tuple(RESOURCE.format(vgpu) for vgpu in ("1-10C", "1-20C", "2-20C"))
SAMPLE = 500  # names in each request
WITHIN_SECONDS = 30.0
WAYS = ("http", "mtls")

Row = dict[str, Any]


class Binds:
    """A served extender, pods that have been given nodes, and binds of all of them."""

    def __init__(self, nodes: int, *, realised_after: float, seed: int) -> None:
        self._chance = random.Random(seed)
        cluster = AgentsCluster(realised_after=realised_after, chance=self._chance)
        self.fleet = KnownFleet(nodes, seed, ready(cluster))
        cluster.of(self.fleet)
        self._cluster = cluster
        self._numbers = itertools.count()
        self._bound: list[str] = []
        self.failed = 0

    async def chosen(self, hooks: Connection, count: int) -> list[wire.BindingArgs]:
        """Take so many pods through filter and prioritize; return what is to be bound."""
        self.fleet.renew()
        return [await self._chosen(hooks) for _ in range(count)]

    async def _chosen(self, hooks: Connection) -> wire.BindingArgs:
        launcher = pod(f"vm-{next(self._numbers):06}", self._chance.choice(TYPES))
        meta = launcher["metadata"]
        self._cluster.comes(launcher)
        passed: Sequence[str] = ()
        async with asyncio.timeout(WITHIN_SECONDS):
            while not passed:  # of a burst some wait for a plan
                names = self._chance.sample(self.fleet.names, min(SAMPLE, len(self.fleet.names)))
                answer = await hooks.post("filter", question(launcher, names))
                passed = msgspec.json.decode(answer, type=wire.FilterResult).node_names or ()
        answer = await hooks.post("prioritize", question(launcher, passed))
        scores = msgspec.json.decode(answer, type=tuple[wire.HostPriority, ...])
        node = max(scores, key=lambda each: each.score).host
        return wire.BindingArgs(meta["name"], meta["namespace"], meta["uid"], node)

    async def bind(self, each: wire.BindingArgs, connection: Connection) -> None:
        """Bind a pod, which then runs."""
        answer = await connection.post("bind", wire.encode(each))
        if msgspec.json.decode(answer, type=wire.BindingResult).error:
            self.failed += 1
            return
        self._cluster.runs(each.pod_uid, each.node)
        self._bound.append(each.pod_uid)

    def leave(self) -> None:
        """Let all pods end that were bound, so that there is room for as many."""
        for uid in self._bound:
            self.fleet.service.knowledge.pod_gone(uid)
        self._bound.clear()


@contextlib.asynccontextmanager
async def opened(
    binds: Binds, way: str, directory: Path
) -> AsyncIterator[tuple[str, ssl.SSLContext | None]]:
    """Serve the hooks in one of the WAYS; yield their URL and what a client needs for it."""
    certificates = client = None
    if way == "mtls":
        authority = Authority(directory)
        server, ours = authority.issue("extender"), authority.issue("kube-scheduler")
        certificates = Certificates(server.public, server.key, authority.file)
        client = ssl.create_default_context(cafile=authority.file)
        client.load_cert_chain(ours.public, ours.key)
    service = binds.fleet.service
    async with collected_between_answers(service), serving(service, tls=certificates) as url:
        working = asyncio.create_task(service.run(), name="service")
        try:
            yield url, client
        finally:
            working.cancel()
            await asyncio.wait([working])


async def at_once(
    binds: Binds, chosen: Sequence[wire.BindingArgs], connections: Sequence[Awaitable[Connection]]
) -> list[float]:
    """Bind all that was *chosen*; return the seconds until each answer, in order."""
    took, began = [], time.perf_counter()

    async def bind(each: wire.BindingArgs, connecting: Awaitable[Connection]) -> None:
        await binds.bind(each, await connecting)
        took.append(time.perf_counter() - began)

    async with asyncio.TaskGroup() as tasks:
        for each, connecting in zip(chosen, connections, strict=True):
            tasks.create_task(bind(each, connecting), name=f"bind-{each.pod_uid}")
    return sorted(took)


async def measure_way(
    nodes: int, way: str, *, count: int, rounds: int, realised_after: float, seed: int
) -> Row:
    """Return what binds take in one of the WAYS."""
    binds = Binds(nodes, realised_after=realised_after, seed=seed)
    found: dict[str, list[list[float]]] = {"opening": [], "kept": []}
    with tempfile.TemporaryDirectory(prefix="tangram-binds-") as folder:
        async with (
            opened(binds, way, Path(folder)) as (url, tls),
            connected(url, tls) as hooks,
        ):
            for _ in range(rounds):
                chosen = await binds.chosen(hooks, count)
                async with contextlib.AsyncExitStack() as stack:
                    opening = [
                        asyncio.ensure_future(stack.enter_async_context(connected(url, tls)))
                        for _ in chosen
                    ]
                    found["opening"].append(await at_once(binds, chosen, opening))
                    binds.leave()
                    chosen = await binds.chosen(hooks, count)
                    found["kept"].append(await at_once(binds, chosen, opening))
                    binds.leave()
    return {kind: _told(each) for kind, each in found.items()} | {"failed": binds.failed}


def _told(rounds: Sequence[Sequence[float]]) -> Row:
    """Return quantiles over all rounds' binds, and the rate of the median round."""
    ordered = sorted(itertools.chain.from_iterable(rounds))
    return {
        "p50_ms": quantile_ms(ordered, 0.5),
        "p99_ms": quantile_ms(ordered, 0.99),
        "per_second": round(statistics.median(len(each) / each[-1] for each in rounds)),
    }


async def measure(nodes: int, *, count: int, rounds: int, realised_after: float, seed: int) -> Row:
    """Return what binds take in all ways."""
    row: Row = {
        "nodes": nodes,
        "binds": count,
        "rounds": rounds,
        "realised_after_s": realised_after,
    }
    for way in WAYS:
        row[way] = await measure_way(
            nodes, way, count=count, rounds=rounds, realised_after=realised_after, seed=seed
        )
    return {**row, "made": msgspec.to_builtins(made.here())}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print a JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        prog="benchmarks.binds",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--binds", type=int, default=400, help="at once")
    parser.add_argument("--rounds", type=int, default=5, help="of each kind")
    parser.add_argument(
        "--realised-after", type=float, default=0.0, help="seconds, on the average, of an agent"
    )
    parser.add_argument("--seed", type=int, default=1, help="what the nodes hold")
    parser.add_argument("--out", type=Path, help="keep what was found in this file")
    options = parser.parse_args(argv)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    work = measure(
        options.nodes,
        count=options.binds,
        rounds=options.rounds,
        realised_after=options.realised_after,
        seed=options.seed,
    )
    with threads_take_short_turns():
        row = uvloop.run(work)
    print(json.dumps(row), flush=True)
    if options.out:
        made.keep(options.out, [row])
    return 0


if __name__ == "__main__":
    sys.exit(main())
