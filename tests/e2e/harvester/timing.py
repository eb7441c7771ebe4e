"""How long a VM waits for its vGPU, made by hand and by Tangram: ``make bench-harvester``.

By the clock, on a real control plane; each run is a cluster of its own, of one node with one A100,
on which VMs come one after the other. The first moment is that at which a vGPU is wanted, the last
one that at which the launcher is bound. By hand, an administrator who loses no moment cuts the GPU
for all VMs (of the first one's time), enables a vGPU, and creates the VM, which the cluster's own
scheduler binds. With Tangram the VM is created, and that is all. Before, both have their GPU in MIG
mode with its virtual functions.

Harvester looks every 30 seconds which vGPUs may be made: VMs are wanted at random moments of such a
round. *Deaf* is a Harvester that does not look at an object sooner because the agent has annotated
it: that it does is read in its source, and has not been tried. *Without lag* it looks every second.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import random
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

from nodeagent.logs import log_to_stderr
from tests.e2e.harvester.by_hand import cut, enable, enable_functions
from tests.e2e.harvester.cluster import Cluster
from tests.e2e.harvester.report import FILE, Run, Way, write
from tests.e2e.harvester.site import site
from tests.e2e.harvester.tangram import installed
from tests.fakes.pcidevices.controller import MIG_SECONDS
from tests.fakes.pcidevices.names import Version
from tests.waiting import until

PROFILES = (19, 14, 19, 19)
"""What the VMs ask for, one after the other; together they fit."""
NODE = "node-1"
WITHOUT_LAG_SECONDS = 1.0
SCAN_SECONDS = 30.0

WAYS = (
    Way("by hand", SCAN_SECONDS),
    Way("Tangram", SCAN_SECONDS),
    Way("Tangram, Harvester deaf", SCAN_SECONDS, deaf=True),
    Way("by hand", WITHOUT_LAG_SECONDS),
    Way("Tangram", WITHOUT_LAG_SECONDS),
)

Next = Callable[[Cluster, str, int], Awaitable[None]]
"""Has a VM of that name and profile come, however that is done."""


async def run(
    directory: Path, version: Version, way: Way, seed: int, begin: asyncio.Barrier
) -> Run:
    """Return how long each VM has waited, in a cluster that begins with those at the same time."""
    chance = random.Random(seed)
    waited = []
    async with (
        _by_hand(directory, version, way)
        if way.by_hand
        else _by_tangram(directory, version, way) as (cluster, come)
    ):
        await begin.wait()
        for n, profile in enumerate(PROFILES):
            await asyncio.sleep(chance.uniform(0.0, way.scan_seconds))
            begun = time.monotonic()
            await come(cluster, f"vm-{n}", profile)
            await _bound(cluster, f"vm-{n}")
            waited.append(time.monotonic() - begun)
    return Run(str(version), way, seed, begin.parties, tuple(waited))


@contextlib.asynccontextmanager
async def _by_hand(
    directory: Path, version: Version, way: Way
) -> AsyncIterator[tuple[Cluster, Next]]:
    async with site(
        directory,
        version,
        nodes=1,
        gpus=1,
        scan_seconds=way.scan_seconds,
        mig_seconds=MIG_SECONDS,
    ) as (cluster, _):
        (address,) = cluster.nodes[NODE].host.gpus
        await cluster.plane.start_scheduler({})
        await enable_functions(cluster, NODE, address)
        counts = {profile: PROFILES.count(profile) for profile in PROFILES}

        async def come(cluster: Cluster, name: str, profile: int) -> None:
            if not cluster.nodes[NODE].host.machine.gpu_instances(0):
                await cut(cluster, NODE, address, counts)
            await enable(cluster, NODE, address, profile)
            await cluster.create(name, profile)

        yield cluster, come


@contextlib.asynccontextmanager
async def _by_tangram(
    directory: Path, version: Version, way: Way
) -> AsyncIterator[tuple[Cluster, Next]]:
    async with installed(
        directory,
        version,
        nodes=1,
        gpus=1,
        scan_seconds=way.scan_seconds,
        mig_seconds=MIG_SECONDS,
        heeds_touches=not way.deaf,
    ) as (cluster, _):

        async def come(cluster: Cluster, name: str, profile: int) -> None:
            await cluster.create(name, profile)

        yield cluster, come


async def _bound(cluster: Cluster, name: str) -> None:
    async def bound() -> bool:
        pod = (await cluster.launchers()).get(name)
        return bool(pod and pod["spec"].get("nodeName"))

    await until(bound, within=300, every=0.02)


async def measured(
    directory: Path,
    versions: Sequence[Version],
    ways: Sequence[Way],
    seeds: Sequence[int],
    *,
    at_once: int,
) -> list[Run]:
    """Return all runs; so many of one way are under way *at_once*.

    Those without lag run alone, for many clusters that look every second would be busy with that.
    """
    found = []
    for version, way in itertools.product(versions, ways):
        together = at_once if way.scan_seconds == SCAN_SECONDS else 1
        for first in range(0, len(seeds), together):
            batch = seeds[first : first + together]
            begin = asyncio.Barrier(len(batch))
            runs = []
            for seed in batch:
                place = Path(tempfile.mkdtemp(prefix=f"{version}-{seed}-", dir=directory))
                runs.append(run(place, version, way, seed, begin))
            done = await asyncio.gather(*runs)
            print(msgspec.json.encode(done).decode(), flush=True)
            found += done
    return found


def main() -> None:
    """Measure, and keep what came of it as JSON and as a page."""
    parser = argparse.ArgumentParser(prog="make bench-harvester BENCH_ARGS=…")
    parser.add_argument("--harvester", type=Version, action="append", help="1.7, 1.8, or both")
    parser.add_argument("--without-lag", action="store_true", help="measure that alone")
    parser.add_argument("--runs", type=int, default=5, help="of each way")
    parser.add_argument("--at-once", type=int, default=5, help="so many of them")
    parser.add_argument("--note", default="", help="what else is to be known of this machine")
    parser.add_argument("--out", type=Path, default=FILE, help="what is there else stays")
    options = parser.parse_args()
    log_to_stderr("error")
    versions = options.harvester or list(Version)
    ways = [each for each in WAYS if not options.without_lag or each.scan_seconds < SCAN_SECONDS]
    seeds = range(1, options.runs + 1)
    with tempfile.TemporaryDirectory(prefix="harvester-timing-") as directory:
        found = asyncio.run(
            measured(Path(directory), versions, ways, seeds, at_once=options.at_once)
        )
    write(options.out, found, note=options.note)


if __name__ == "__main__":
    main()
