"""How much of a burst is admitted with and without joint planning, by the hooks' own decisions.

A fleet of simulated H100 is filled and thinned at random to a given share; then 300 VMs come at
once, more than fit. Without planning each is filtered, ranked and placed as it comes; with planning
they wait for the plan of the burst, and are placed as they come back. The bind's decision is taken
where it would be, the write to an API server is left out. Whoever was left out comes again until
nothing more fits. The last columns are the times of filter calls while the plan is being made.

    python -m benchmarks.bursts --pods 300 --fill 0.5,0.7,0.9
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import statistics
import sys
import time
from collections.abc import Sequence

import msgspec
import structlog

from benchmarks.fleet import GPUS, MODEL, filled
from extender import wire
from extender.cluster import KubernetesCluster, OwnPod
from extender.packing.choose import Choice
from extender.request import Request, of_pod
from extender.service import Service
from extender.service.ports import Feed
from extender.settings import Settings
from extender.simulation.mixes import mix
from extender.verbs import bind
from nodeagent.api import resources
from nodeagent.api.gpunode import Assignment, GpuNode, Plan
from nodeagent.apiserver.memory import InMemoryApi

PATIENT = 3600.0  # seconds; in a benchmark no plan ends before it is carried out


class Burst:
    """A fleet at a share of its slices, and the VMs that come all at once."""

    def __init__(self, *, nodes: int, pods: int, fill: float, seed: int, planned: bool) -> None:
        self._chance = random.Random(seed)
        self._now = 0.0
        settings = Settings(
            plan_burst_pods=2 if planned else 0,
            plan_lasts_seconds=PATIENT,
            plan_wait_seconds=PATIENT,
        )
        cluster = KubernetesCluster(InMemoryApi(), own_pod=OwnPod("tangram-system", "extender-0"))
        self.service = Service(cluster, settings, clock=time.monotonic)
        self._planned = planned
        knowledge = self.service.knowledge
        self.names = [f"gpu-node-{index:03}" for index in range(nodes)]
        for feed in Feed:
            knowledge.feed_synced(feed)
        for name in self.names:
            knowledge.node(name, cordoned=False)
            knowledge.lease(name, "1")
            empty = filled(name, self._chance, version=1)
            knowledge.gpu_node(msgspec.structs.replace(empty, spec=Plan()))
        types = {v.profile_id: resources.of_vgpu_type(v.name)[0] for v in MODEL.vgpu_types}
        self._shares = mix("mid", MODEL.geometry, frozenset(types))
        self._types = types
        self._fill(fill, nodes * GPUS * MODEL.geometry.memory_slices)
        self.pods = [self._pod(f"vm-{index:03}") for index in range(pods)]

    def _fill(self, share: float, slices: int) -> None:
        """Fill the fleet as the hooks would, until nothing fits, and let VMs leave at random."""
        knowledge = self.service.knowledge
        misses = taken = 0
        for index in range(slices):
            request = self._request(self._pod(f"old-{index}"))
            done = self._place(request, knowledge.settings)
            taken, misses = taken + done, misses + (not done)
            if misses > len(self._shares) * 4:
                break
        entries = [(view.name, entry.id) for view, entry in knowledge.entries()]
        self._chance.shuffle(entries)
        while taken > share * slices:
            name, id = entries.pop()
            view = knowledge.views[name]
            (leaving,) = (a for a in view.node.spec.assignments if a.id == id)
            taken -= leaving.size
            self._write(name, [a for a in view.node.spec.assignments if a.id != id])

    def _place(self, request: Request, settings: Settings) -> int:
        for name in self._chance.sample(self.names, len(self.names)):
            choice = bind.place(
                self.service.knowledge.views[name], self.service.knowledge.ledger, request
            )
            if isinstance(choice, Choice):
                return self._commit(name, request, choice)
        return 0

    def _commit(self, name: str, request: Request, choice: Choice) -> int:
        knowledge = self.service.knowledge
        entries = bind.assignments(
            request, choice, ids=iter([request.pod.uid]), since="2026-01-01T00:00:00Z"
        )
        self._write(name, [*knowledge.views[name].node.spec.assignments, *entries])
        knowledge.ledger = knowledge.ledger.confirm(request.pod.uid)
        return sum(each.size for each in entries)

    def _write(self, name: str, entries: Sequence[Assignment]) -> None:
        before = self.service.knowledge.views[name].node
        version = before.metadata.generation + 1
        self.service.knowledge.gpu_node(
            GpuNode(
                metadata=msgspec.structs.replace(
                    before.metadata, generation=version, resource_version=str(version)
                ),
                spec=Plan(tuple(entries)),
                status=msgspec.structs.replace(before.status, observed_generation=version),
            )
        )

    def _pod(self, name: str) -> wire.Pod:
        (profile,) = self._chance.choices(list(self._shares), list(self._shares.values()))
        amounts: dict[str, str | int | float] = {self._types[profile]: "1"}
        return wire.Pod(
            wire.PodMetadata(name=name, namespace="tenants", uid=name),
            wire.PodSpec(containers=(wire.Container(wire.Resources(amounts, amounts)),)),
        )

    def _request(self, pod: wire.Pod) -> Request:
        asked = of_pod(pod, devices_per_pod=1)
        assert isinstance(asked, Request)
        return asked

    def attempt(self, pod: wire.Pod) -> int:
        """Give a pod one scheduling cycle; return the slices it was given."""
        hooks, knowledge = self.service.hooks, self.service.knowledge
        answer = hooks.filter(wire.ExtenderArgs(pod, node_names=tuple(self.names)))
        passed = answer.node_names or ()
        if not passed:
            return 0
        node = passed[0]
        if len(passed) > 1:
            scores = hooks.prioritize(wire.ExtenderArgs(pod, node_names=passed))
            node = max(scores, key=lambda each: each.score).host
        request = self._request(pod)
        choice = bind.place(knowledge.views[node], knowledge.ledger, request)
        return self._commit(node, request, choice) if isinstance(choice, Choice) else 0

    async def run(self) -> tuple[int, list[float]]:
        """Place the burst; return slices admitted, and milliseconds of filter while it is planned.

        A filter's time is from when it could have begun: the wait for the interpreter counts.
        """
        admitted: dict[str, int] = {}
        times: list[float] = []
        self._round(admitted)
        if self._planned:
            planning = asyncio.create_task(self.service.planner.plan())
            probe = self._pod("probe")
            while not planning.done():
                started = time.perf_counter()
                await asyncio.sleep(0)
                self.service.hooks.filter(wire.ExtenderArgs(probe, node_names=tuple(self.names)))
                times.append((time.perf_counter() - started) * 1000)
            await planning
            self.service.knowledge.pod_gone("probe")
            self._round(admitted)
            self.service.knowledge.pending.carried_out()
            self.service.knowledge.ledger = self.service.knowledge.ledger.plan({})
        while self._round(admitted):
            pass
        return sum(admitted.values()), times

    def _round(self, admitted: dict[str, int]) -> int:
        before = len(admitted)
        for pod in self.pods:
            if pod.metadata.uid not in admitted and (slices := self.attempt(pod)):
                admitted[pod.metadata.uid] = slices
        return len(admitted) - before


def measure(
    *, nodes: int, pods: int, fill: float, seeds: int, first_seed: int = 1
) -> dict[str, float]:
    """Return mean slices admitted over the seeds, and the latency of filter while planning."""
    alone, together, times = [], [], []
    for seed in range(first_seed, first_seed + seeds):
        burst = {"nodes": nodes, "pods": pods, "seed": seed}
        alone.append(asyncio.run(Burst(**burst, fill=fill, planned=False).run())[0])
        slices, beside = asyncio.run(Burst(**burst, fill=fill, planned=True).run())
        together.append(slices)
        times += beside
    gains = [b - a for a, b in zip(alone, together, strict=True)]
    half = 1.96 * statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else 0.0
    times.sort()
    return {
        "pods": pods,
        "fill": fill,
        "free_slices": round((1 - fill) * nodes * GPUS * MODEL.geometry.memory_slices),
        "admitted_one_by_one": statistics.fmean(alone),
        "admitted_planned": statistics.fmean(together),
        "gain_slices": statistics.fmean(gains),
        "gain_ci95": round(half, 2),
        "filter_ms_p50_planning": round(statistics.median(times), 3),
        "filter_ms_p99_planning": round(times[int(0.99 * (len(times) - 1))], 3),
        "filter_ms_max_planning": round(times[-1], 3),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print, one JSON object for each fill."""
    parser = argparse.ArgumentParser(description=__doc__, prog="benchmarks.bursts")
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--pods", type=int, default=300)
    parser.add_argument("--fill", default="0.5,0.7,0.9")
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args(argv)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    for fill in map(float, options.fill.split(",")):
        row = measure(nodes=options.nodes, pods=options.pods, fill=fill, seeds=options.seeds)
        print(json.dumps(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
