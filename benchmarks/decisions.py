"""How long filter and prioritize take to decide, beside a floor that decides nothing.

The floor reads the same request and fills the same reply in the same proportions, looking each name
up in a dict. Nodes hold 8 simulated H100, filled at random to about three quarters. "Changed" is
the first decision after one node in a hundred has changed; "new shape" the first of its kind.

    python -m benchmarks.decisions --nodes 100,1000,5000
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator

import msgspec
import structlog

from extender import wire
from extender.cluster import KubernetesCluster
from extender.service import Service
from extender.service.ports import Feed
from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Assignment, GpuNode, Metadata, Mode, Plan, PodRef
from nodeagent.api.occupancy import occupied_by
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.discover import inventory
from nodeagent.driver import Host, LiveGpu

MODEL = MODELS["H100-80GB"]
GPUS = 8
RESOURCE = "nvidia.com/NVIDIA_H100XM-{}"
TYPES = ("1-10C", "1-20C", "2-20C", "3-40C", "4-40C", "7-80C")


def filled(name: str, chance: random.Random, *, version: int) -> GpuNode:
    """Return a node whose GPUs hold what chance has put there."""
    gpus = tuple(
        LiveGpu(
            f"GPU-{name}-{i}", f"0000:{i:02x}:00.0", MODEL.name, MODEL.geometry, MODEL.vgpu_types
        )
        for i in range(GPUS)
    )
    plan = tuple(a for gpu in gpus for a in _assignments(gpu.uuid, chance))
    host = Host("boot", "simulated", Mode.VGPU_VFIO, gpus, simulated=True)
    status = inventory(host, {gpu.uuid: () for gpu in gpus}, plan)
    return GpuNode(
        metadata=Metadata(name, f"uid-{name}", version, str(version)),
        spec=Plan(plan),
        status=msgspec.structs.replace(status, agent_epoch="e", observed_generation=version),
    )


def _assignments(gpu: str, chance: random.Random) -> Iterator[Assignment]:
    geometry = MODEL.geometry
    taken: list[tuple[int, Placement]] = []
    for _ in range(chance.randint(0, 5)):
        profile = chance.choice(geometry.profiles)
        legal = list(geometry.legal(occupied_by(geometry, taken), profile))
        if legal:
            placement = chance.choice(legal)
            taken.append((profile.id, placement))
            name = f"{gpu}-{placement.start}"
            yield Assignment(
                id=name,
                gpu=gpu,
                profile_id=profile.id,
                start=placement.start,
                size=placement.size,
                resource=RESOURCE.format("1-10C"),
                since="2026-01-01T00:00:00Z",
                pod=PodRef("tenants", name, name),
            )


class Cluster:
    """A service that knows so many nodes, and the requests to ask it with."""

    def __init__(self, nodes: int, seed: int) -> None:
        self._chance = random.Random(seed)
        self.service = Service(KubernetesCluster(InMemoryApi()))
        self.names = [f"gpu-node-{index:05}" for index in range(nodes)]
        self._version = 1
        for feed in Feed:
            self.service.knowledge.feed_synced(feed)
        for name in self.names:
            self.service.knowledge.node(name, cordoned=False)
            self.service.knowledge.lease(name, "1")
            self.service.knowledge.gpu_node(filled(name, self._chance, version=1))

    def change(self) -> None:
        """Let one node in a hundred change."""
        self._version += 1
        for name in self._chance.sample(self.names, max(1, len(self.names) // 100)):
            self.service.knowledge.gpu_node(filled(name, self._chance, version=self._version))

    def request(self, vgpu: str) -> bytes:
        """Return a filter request for one vGPU, all names in it."""
        container = {"name": "compute", "resources": {"requests": {RESOURCE.format(vgpu): "1"}}}
        pod = {
            "metadata": {"name": "vm", "namespace": "tenants", "uid": "vm"},
            "spec": {"containers": [container]},
        }
        return msgspec.json.encode({"Pod": pod, "Nodes": None, "NodeNames": self.names})


def floor(body: bytes, known: dict[str, bool]) -> bytes:
    """Read a request and fill its reply, deciding nothing."""
    args = wire.decode(body, wire.ExtenderArgs)
    passed, refused = [], {}
    for name in args.node_names or ():
        if known[name]:
            passed.append(name)
        else:
            refused[name] = "vGPU: no free placement for nvidia.com/NVIDIA_H100XM-7-80C"
    return wire.encode(wire.FilterResult(tuple(passed), None, {}, refused))


def _milliseconds(work: Callable[[], object], prepare: Callable[[], object], rounds: int) -> float:
    took = []
    for _ in range(rounds):
        prepare()
        started = time.perf_counter()
        work()
        took.append((time.perf_counter() - started) * 1000)
    return statistics.median(took)


def measure(nodes: int, *, rounds: int, seed: int) -> dict[str, float]:
    """Return medians in milliseconds, and the ratio of a repeated filter to the floor."""
    cluster = Cluster(nodes, seed)
    hooks = cluster.service.hooks
    body = cluster.request("3-40C")

    def ask(body: bytes = body) -> bytes:
        return wire.encode(hooks.filter(wire.decode(body, wire.ExtenderArgs)))

    def rank() -> bytes:
        return wire.encode(hooks.prioritize(wire.decode(body, wire.ExtenderArgs)))

    shapes = iter([cluster.request(vgpu) for vgpu in TYPES if vgpu != "3-40C"])
    first = [_milliseconds(functools.partial(ask, shape), lambda: None, 1) for shape in shapes]
    answer = msgspec.json.decode(ask())
    known = dict.fromkeys(cluster.names, False) | dict.fromkeys(answer["NodeNames"], True)
    nothing = _milliseconds(lambda: floor(body, known), lambda: None, rounds)
    repeated = _milliseconds(ask, lambda: None, rounds)
    return {
        "nodes": nodes,
        "floor_ms": round(nothing, 3),
        "filter_ms": round(repeated, 3),
        "filter_to_floor": round(repeated / nothing, 2),
        "filter_changed_ms": round(_milliseconds(ask, cluster.change, rounds), 3),
        "filter_new_shape_ms": round(statistics.median(first), 3),
        "prioritize_ms": round(_milliseconds(rank, lambda: None, rounds), 3),
    }


def main(arguments: list[str]) -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", default="100,1000,5000", help="sizes, separated by commas")
    parser.add_argument("--rounds", type=int, default=30, help="repetitions of each measurement")
    parser.add_argument("--seed", type=int, default=1, help="what the nodes hold")
    parser.add_argument("--output", choices=("text", "json"), default="text")
    options = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    rows = []
    for nodes in map(int, options.nodes.split(",")):
        print(f"measuring {nodes} nodes x {GPUS} GPUs", file=sys.stderr)
        rows.append(measure(nodes, rounds=options.rounds, seed=options.seed))
    if options.output == "json":
        print(json.dumps(rows))
        return
    print("  ".join(f"{key:>19}" for key in rows[0]))
    for row in rows:
        print("  ".join(f"{value:>19}" for value in row.values()))


if __name__ == "__main__":
    main(sys.argv[1:])
