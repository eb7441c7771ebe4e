"""What an extender's process takes in a cluster in full use: time to begin, memory, writes.

The cluster (``benchmarks.populated``) lies in the API server's twin, behind HTTP; agents' Leases
are renewed, and agents make what is planned. ``tangram serve`` starts beside it, in a process of
its own:

* ``ready_s`` from its start until ``/readyz`` says so; ``processor_s`` of that it worked;
* ``resident_mb`` and ``peak_mb`` are what the kernel counts for it after a while, and
  ``used_resident_mb`` and ``used_peak_mb`` at the end, when it has answered for every type and all
  nodes, planned a burst and explained a refusal;
* ``change_*_ms`` from the moment a write of a GpuNode is sent until filter answers by it, and
  ``api_*_ms`` until a watch of the benchmark's own brings it: the API server's part. Meanwhile
  others are written by several writers, ``changes_per_second`` as it came out;
* ``writes_*`` are all writes of GpuNodes and pods in the lives of some VMs, from their creation as
  pods until nothing of them is left, by VM; ``bytes_*`` what the objects written have for JSON.

Of GPUs that are ``full``, five vGPUs on the average, some are left by their VMs before others come.
``--real`` has etcd and kube-apiserver instead of the twin, pods of 20 kB as KubeVirt's are, and
counts no writes; 200,000 such pods, of all GPUs full, are more than etcd takes.

    python -m benchmarks.start --nodes 5000 --per-gpu full --out FILE
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
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp
import msgspec
import structlog
import uvloop

from benchmarks import made, residents
from benchmarks.extenders import agents, renew
from benchmarks.http import Connection, connected, quantile_ms
from benchmarks.living import WITHIN_SECONDS, Cluster, Row, asked_about, lives, passed
from benchmarks.populated import NAMESPACE, RESOURCES, SMALL, Vm
from benchmarks.processes import TANGRAM, Extender, free_port
from benchmarks.twin import served
from extender.settings import Settings
from nodeagent.api import gpunode, keys
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import GPU_NODES, PODS, ApiServer
from nodeagent.apiserver.reflector import Upserted, reflect
from nodeagent.apiserver.rest import RestApi
from tests.e2e.controlplane.binaries import Missing, locate
from tests.e2e.controlplane.cluster import control_plane
from tests.e2e.stack import install
from tests.waiting import until

BURST = 20  # pods, more than are placed one by one when they come together
PLANNED_WITHIN_SECONDS = Settings().plan_wait_seconds  # pods of a burst are answered then, anyhow
WHOLE = "7-80C"  # a vGPU for which no GPU here is empty enough, or next to none
OWN_POD = "tangram-extender-0"
_PLANS = re.compile(r"^tangram_joint_plan_duration_seconds_count\S* (\S+)$", re.MULTILINE)


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
    canary = cluster.in_use[-1]
    pod = residents.pod(Vm("canary", wanted=RESOURCES[SMALL[0]]))
    pod["metadata"]["uid"] = "canary"
    body = asked_about(msgspec.json.encode(pod), [canary])
    others = asyncio.create_task(cluster.changes(per_second, canary), name="changes")
    took, began = [], {}
    started, written = time.perf_counter(), cluster.written
    before = await connection.post("filter", body)
    async with watched(cluster.api, canary) as came:
        for _ in range(samples):
            await asyncio.sleep(cluster.chance.uniform(0.02, 0.08))
            at, version = await cluster.change(canary)
            before = await _another(connection, body, before)
            took.append(time.perf_counter() - at)
            began[version] = at
        await until(lambda: came.keys() >= began.keys(), within=WITHIN_SECONDS)
    rate = (cluster.written - written) / (time.perf_counter() - started)
    others.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await others
    theirs = sorted(came[version] - at for version, at in began.items())
    return {"samples": samples, "changes_per_second": round(rate)} | {
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


async def used(cluster: Cluster, connection: Connection, process: Extender, desk: str) -> Row:
    """Use an extender for all that it is there for; return the memory that it has then."""
    wanted = tuple(RESOURCES.values())
    refused = next(at for at, resource in enumerate(wanted) if resource.endswith(WHOLE))

    async def ask(pod: bytes) -> None:
        if nodes := await passed(connection, pod, cluster.names):
            await connection.post("prioritize", asked_about(pod, nodes))

    async def create(name: str, resource: str) -> bytes:
        pod = residents.pod(Vm(name, wanted=resource))
        return await cluster.api.create(PODS, pod, namespace=NAMESPACE)

    async with aiohttp.ClientSession(raise_for_status=True) as http:

        async def plans() -> float:
            async with http.get(f"{desk}/metrics") as answer:
                return sum(map(float, _PLANS.findall(await answer.text())))

        async def planned() -> bool:
            return await plans() > before

        before = await plans()
        async with asyncio.timeout(WITHIN_SECONDS):
            for burst in itertools.count():  # one that comes too slowly is placed one by one
                names = [f"burst-{burst}-{index:03}" for index in range(BURST)]
                asked = zip(names, itertools.cycle(wanted), strict=False)
                for pod in await asyncio.gather(*(create(*each) for each in asked)):
                    await ask(pod)
                with contextlib.suppress(TimeoutError):
                    await until(planned, within=PLANNED_WITHIN_SECONDS, every=0.05)
                if done := await planned():
                    query = {"namespace": NAMESPACE, "pod": names[refused]}
                    async with http.get(f"{desk}/api/v1/explain", params=query) as answer:
                        await answer.read()
                for name in names:
                    await cluster.api.delete(PODS, name, namespace=NAMESPACE, grace_seconds=0)
                if done:
                    break
    return {f"used_{name}": round(size / 1e6) for name, size in process.memory().items()}


@contextlib.asynccontextmanager
async def extender(
    kubeconfig: Path, directory: Path, desk: int, *, settle: float
) -> AsyncIterator[tuple[Extender, Row]]:
    """Start ``tangram serve``, its desk on a port, and measure that; memory after *settle* s."""
    own_pod = f"{keys.SYSTEM_NAMESPACE}/{OWN_POD}"
    options = ("--desk-port", str(desk), "--own-pod", own_pod)
    process = Extender(directory, kubeconfig, (*TANGRAM, *options))
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


async def own_pod(api: ApiServer) -> None:
    """Have the pod there in which the extender runs, as it will be told."""
    container = {"name": "extender", "image": "tangram"}
    body = {"metadata": {"name": OWN_POD}, "spec": {"containers": [container]}}
    await api.create(PODS, body, namespace=keys.SYSTEM_NAMESPACE)


async def measure(nodes: int, per_gpu: int | None, options: argparse.Namespace) -> Row:
    """Return all that is measured at one size; without a number, of GPUs that are full."""
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
            await residents.create(api, cluster.site, long=options.real)
            await own_pod(api)
            some_pod = await api.get(PODS, next(iter(cluster.site.vms)), namespace=NAMESPACE)
            row: Row = {
                "api_server": "twin" if twin else "real",
                "nodes": nodes,
                "per_gpu": "full" if per_gpu is None else per_gpu,
                "assignments": cluster.site.assignments,
                "pods": len(cluster.site.vms),
                "pod_bytes": len(some_pod),
            }
            await stack.enter_async_context(quiet_collector())
            alive = [name for name in cluster.names if name not in cluster.site.leaseless]
            renewing = asyncio.create_task(renew(api, alive), name="renew")
            stack.callback(renewing.cancel)
            await stack.enter_async_context(agents(api))
            desk = free_port()
            started = extender(kubeconfig, directory, desk, settle=options.settle)
            process, found = await stack.enter_async_context(started)
            connection = await stack.enter_async_context(connected(process.url))
            row |= found | await seen_after(
                cluster, connection, samples=options.samples, per_second=options.changes
            )
            if twin:
                row |= await lives(cluster, twin, connection, count=options.lives)
            row |= await used(cluster, connection, process, f"http://127.0.0.1:{desk}")
    return row


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print a JSON object for each number of GPU instances on a GPU."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        prog="benchmarks.start",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--nodes", type=int, default=5000)
    parser.add_argument(
        "--per-gpu", default="1,full", help="GPU instances, up to 7 or full, separated by commas"
    )
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
    for told in options.per_gpu.split(","):
        print(f"making {options.nodes} nodes, instances a GPU: {told}", file=sys.stderr)
        work = measure(options.nodes, None if told == "full" else int(told), options)
        rows.append({**uvloop.run(work), "made": msgspec.to_builtins(made.here())})
        print(json.dumps(rows[-1]), flush=True)
    if options.out:
        made.keep(options.out, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
