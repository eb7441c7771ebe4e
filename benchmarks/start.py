"""What an extender's process takes in a cluster in full use: time to begin, memory, writes.

The cluster (``benchmarks.populated``) lies in the API server's twin, behind HTTP; agents' Leases
are renewed, and agents make what is planned. ``tangram serve`` starts beside it, in a process of
its own:

* ``ready_s`` from its start until ``/readyz`` says so; ``processor_s`` of that it worked;
* ``resident_mb`` and ``peak_mb`` are what the kernel counts for it;
* ``change_*_ms`` from a write of a GpuNode until filter answers by it, while others are written,
  and ``api_*_ms`` until a watch of the benchmark's own brings it: the API server's part;
* ``writes_*`` are all writes of GpuNodes and pods in the lives of some VMs, from their creation as
  pods until nothing of them is left, by VM; ``bytes_*`` what the objects written have for JSON.

``--real`` has etcd and kube-apiserver instead of the twin, where the VMs' pods are without what
only makes them long (40,000 of 20 kB are more than etcd takes), and writes are not counted.

    python -m benchmarks.start --nodes 5000 --per-gpu 3 --out FILE
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import itertools
import json
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog
import uvloop

from benchmarks import made, populated, residents
from benchmarks.extenders import agents, renew
from benchmarks.http import Connection, connected, quantile_ms
from benchmarks.populated import GPUS, NAMESPACE, RESOURCES, SMALL, Vm
from benchmarks.processes import Extender
from benchmarks.twin import served
from extender import wire
from nodeagent.api import gpunode
from nodeagent.apiserver.history import Write
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import GPU_NODES, PODS, ApiServer, Kind, PatchType
from nodeagent.apiserver.reflector import Upserted, reflect
from nodeagent.apiserver.rest import RestApi
from tests.e2e.controlplane.binaries import Missing, locate
from tests.e2e.controlplane.cluster import control_plane
from tests.e2e.stack import install
from tests.waiting import until

CANDIDATES = 50  # nodes a VM of the lives may go to
WITHIN_SECONDS = 120.0

Row = dict[str, Any]


class Written:
    """Counts what the API server is asked to write."""

    def __init__(self) -> None:
        self.writes: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def __call__(self, kind: Kind, write: Write) -> None:
        """Witness one write."""
        self.writes[kind.plural] += 1
        if write.after is not None:
            self.bytes[kind.plural] += len(write.after.raw)


class Cluster:
    """An API server full of VMs, and what goes on in it."""

    def __init__(self, api: ApiServer, nodes: int, per_gpu: int, *, seed: int) -> None:
        self.api = api
        self.chance = random.Random(seed)
        self.site = populated.drawn(nodes, nodes * GPUS * per_gpu, pending=1, seed=seed)
        self.names = list(self.site.nodes)
        self._reports = itertools.count(1)

    async def change(self, name: str) -> tuple[float, str]:
        """Have a node's GPUs all healthy, or none, in turns.

        Return when the write began, and the version it made.
        """
        node = gpunode.decode(await self.api.get(GPU_NODES, name))
        fault = "" if node.status.gpus[0].unhealthy else "xid-79"
        gpus = [msgspec.structs.replace(gpu, unhealthy=fault) for gpu in node.status.gpus]
        change = {"op": "add", "path": "/status/gpus", "value": msgspec.to_builtins(gpus)}
        began = time.perf_counter()
        written = await self.api.patch(
            GPU_NODES, name, [change], patch_type=PatchType.JSON, subresource="status"
        )
        return began, gpunode.decode(written).metadata.resource_version

    async def changes(self, per_second: float, besides: str) -> None:
        """Change nodes, so many a second, until cancelled."""
        started = time.perf_counter()
        for count in itertools.count(1):
            (name,) = self.chance.sample(self.names, 1)
            if name != besides:
                await self.change(name)
            await asyncio.sleep(max(0.0, started + count / per_second - time.perf_counter()))


@contextlib.asynccontextmanager
async def watched(api: ApiServer, name: str) -> AsyncIterator[dict[str, float]]:
    """Watch a GpuNode as the extender does; yield when each of its versions came."""
    came: dict[str, float] = {}
    listed = asyncio.Event()

    async def watch() -> None:
        changes = reflect(api, GPU_NODES, field_selector=f"metadata.name={name}")
        async with contextlib.aclosing(changes):
            async for change in changes:
                if isinstance(change, Upserted):
                    version = gpunode.decode(change.object.raw).metadata.resource_version
                    came[version] = time.perf_counter()
                listed.set()

    watching = asyncio.create_task(watch(), name="watch")
    await listed.wait()
    try:
        yield came
    finally:
        watching.cancel()


async def seen_after(
    cluster: Cluster, connection: Connection, *, samples: int, per_second: float
) -> Row:
    """Measure how soon filter answers by a change, while others are written.

    And how soon a watch of our own brings it, which is the API server's part.
    """
    out_of_use = cluster.site.cordoned | cluster.site.leaseless
    canary = next(name for name in cluster.names if name not in out_of_use)
    pod = residents.pod(Vm("canary", wanted=RESOURCES[SMALL[0]]))
    pod["metadata"]["uid"] = "canary"
    body = msgspec.json.encode({"Pod": pod, "Nodes": None, "NodeNames": [canary]})
    others = asyncio.create_task(cluster.changes(per_second, canary), name="changes")
    took, began = [], {}
    before = await connection.post("filter", body)
    async with watched(cluster.api, canary) as came:
        for _ in range(samples):
            await asyncio.sleep(cluster.chance.uniform(0.02, 0.08))
            at, version = await cluster.change(canary)
            before = await _another(connection, body, before)
            took.append(time.perf_counter() - at)
            began[version] = at
        await until(lambda: came.keys() >= began.keys(), within=WITHIN_SECONDS)
    others.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await others
    theirs = sorted(came[version] - at for version, at in began.items())
    return {
        f"{what}_{name}_ms": quantile_ms(ordered, share)
        for what, ordered in (("change", sorted(took)), ("api", theirs))
        for name, share in (("p50", 0.5), ("p99", 0.99))
    }


async def _another(connection: Connection, body: bytes, before: bytes) -> bytes:
    """Ask until the answer is another, and return it."""
    async with asyncio.timeout(WITHIN_SECONDS):
        while True:
            now = await connection.post("filter", body)
            if now != before:
                return now
            await asyncio.sleep(0.0005)


async def lives(cluster: Cluster, twin: InMemoryApi, connection: Connection, *, count: int) -> Row:
    """Let VMs come and go, and count what is written for them."""
    written = Written()
    twin.witnessed_by(written)
    bound = 0
    for index in range(count):
        vm = Vm(f"life-{index:03}", wanted=RESOURCES[SMALL[index % len(SMALL)]])
        pod = await cluster.api.create(PODS, residents.pod(vm), namespace=NAMESPACE)
        bound += await _bound(cluster, connection, pod)
        await cluster.api.delete(PODS, vm.name, namespace=NAMESPACE, grace_seconds=0)
    await _forgotten(cluster)
    told = {"gpunodes": "gpunode", "pods": "pod"}
    return {
        "lives": bound,
        **{f"writes_{name}": round(written.writes[kind] / bound, 2) for kind, name in told.items()},
        **{f"bytes_{name}": round(written.bytes[kind] / bound) for kind, name in told.items()},
    }


async def _bound(cluster: Cluster, connection: Connection, pod: bytes) -> bool:
    """Take a pod through the hooks as kube-scheduler does; tell whether it is bound."""
    names: Sequence[str] = cluster.chance.sample(cluster.names, min(CANDIDATES, len(cluster.names)))

    def asked(names: Sequence[str]) -> bytes:
        return msgspec.json.encode({"Pod": msgspec.Raw(pod), "Nodes": None, "NodeNames": names})

    answer = await connection.post("filter", asked(names))
    passed = msgspec.json.decode(answer, type=wire.FilterResult).node_names or ()
    if not passed:
        return False
    scores = msgspec.json.decode(
        await connection.post("prioritize", asked(passed)), type=tuple[wire.HostPriority, ...]
    )
    meta = msgspec.json.decode(pod)["metadata"]
    args = {
        "PodName": meta["name"],
        "PodNamespace": meta["namespace"],
        "PodUID": meta["uid"],
        "Node": max(scores, key=lambda each: each.score).host,
    }
    answer = await connection.post("bind", msgspec.json.encode(args))
    return not msgspec.json.decode(answer, type=wire.BindingResult).error


async def _forgotten(cluster: Cluster) -> None:
    """Wait until no plan has anything of the lives, and each agent has seen it."""
    async with asyncio.timeout(WITHIN_SECONDS):
        for name in cluster.names:
            while True:
                raw = await cluster.api.get(GPU_NODES, name)
                node = gpunode.decode(raw)
                behind = node.status.observed_generation < node.metadata.generation
                if b'"life-' not in raw and not behind:
                    break
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def extender(
    kubeconfig: Path, directory: Path, *, settle: float
) -> AsyncIterator[tuple[Extender, Row]]:
    """Start ``tangram serve``, and measure that; memory after *settle* seconds."""
    process = Extender(directory, kubeconfig)
    began = time.perf_counter()
    async with process.running():
        row: Row = {"ready_s": round(await process.ready(WITHIN_SECONDS) - began, 2)}
        row["processor_s"] = round(process.processor_seconds(), 2)
        await asyncio.sleep(settle)
        row |= {name: round(size / 1e6) for name, size in process.memory().items()}
        yield process, row


@contextlib.asynccontextmanager
async def real(directory: Path) -> AsyncIterator[tuple[RestApi, Path]]:
    """Run an API server with what Tangram needs there; yield it and a kubeconfig for it.

    Raises:
        SystemExit: its programs are not here.
    """
    binaries = locate()
    if isinstance(binaries, Missing):
        raise SystemExit(f"skipped: {binaries.reason}")
    logs = directory / "controlplane"
    logs.mkdir()
    async with control_plane(binaries, directory=logs) as plane:
        await install(plane)
        kubeconfig = plane.kubeconfig("admin")
        async with RestApi(kubeconfig=kubeconfig, connections=64) as api:
            yield api, kubeconfig


@contextlib.asynccontextmanager
async def quiet_collector() -> AsyncIterator[None]:
    """Keep Python from looking through what lies in the twin, which would take 100 ms."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


async def measure(nodes: int, per_gpu: int, options: argparse.Namespace) -> Row:
    """Return all that is measured at one size."""
    with tempfile.TemporaryDirectory(prefix="tangram-start-") as folder:
        directory = Path(folder)
        async with contextlib.AsyncExitStack() as stack:
            api: ApiServer
            twin: InMemoryApi | None = None
            if options.real:
                api, kubeconfig = await stack.enter_async_context(real(directory))
            else:
                api = twin = InMemoryApi(chance=random.Random(options.seed))
                kubeconfig = await stack.enter_async_context(served(twin, directory))
            cluster = Cluster(api, nodes, per_gpu, seed=options.seed)
            await residents.create(api, cluster.site, short=options.real)
            row: Row = {
                "api_server": "twin" if twin else "real",
                "nodes": nodes,
                "assignments": cluster.site.assignments,
                "pods": len(cluster.site.vms),
            }
            await stack.enter_async_context(quiet_collector())
            alive = [name for name in cluster.names if name not in cluster.site.leaseless]
            renewing = asyncio.create_task(renew(api, alive), name="renew")
            stack.callback(renewing.cancel)
            await stack.enter_async_context(agents(api))
            started = extender(kubeconfig, directory, settle=options.settle)
            process, found = await stack.enter_async_context(started)
            connection = await stack.enter_async_context(connected(process.url))
            row |= found | await seen_after(
                cluster, connection, samples=options.samples, per_second=options.changes
            )
            if twin:
                row |= await lives(cluster, twin, connection, count=options.lives)
    return row


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print a JSON object for each number of GPU instances on a GPU."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        prog="benchmarks.start",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--nodes", type=int, default=5000)
    parser.add_argument("--per-gpu", default="1,3", help="GPU instances, separated by commas")
    parser.add_argument("--settle", type=float, default=10.0, help="seconds until memory is read")
    parser.add_argument("--samples", type=int, default=200, help="changes that are timed")
    parser.add_argument("--changes", type=float, default=200.0, help="of GpuNodes, a second")
    parser.add_argument("--lives", type=int, default=50, help="VMs that come and go")
    parser.add_argument("--real", action="store_true", help="beside etcd and kube-apiserver")
    parser.add_argument("--seed", type=int, default=1, help="what there is")
    parser.add_argument("--out", type=Path, help="keep what was found in this file")
    options = parser.parse_args(argv)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    rows = []
    for per_gpu in map(int, options.per_gpu.split(",")):
        print(f"making {options.nodes} nodes, {per_gpu} instances a GPU", file=sys.stderr)
        work = measure(options.nodes, per_gpu, options)
        rows.append({**uvloop.run(work), "made": msgspec.to_builtins(made.here())})
        print(json.dumps(rows[-1]), flush=True)
    if options.out:
        made.keep(options.out, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
