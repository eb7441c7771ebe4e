"""Nodes with 8 simulated H100, filled at random to about three quarters, and a service's view."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator

import msgspec

from extender.cluster import KubernetesCluster
from extender.service import Service
from extender.service.events import PodEvents
from extender.service.planner import Solve, in_thread
from extender.service.ports import Cluster, Evictor, Feed
from extender.service.seam import Seam, Witness
from nodeagent.api import gpunode
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


class KnownFleet:
    """A service that knows so many nodes, and the changes a watch would bring it."""

    def __init__(self, nodes: int, seed: int, service: Service | None = None) -> None:
        self.chance = random.Random(seed)
        self.service = service or ready()
        self.names = [f"gpu-node-{index:05}" for index in range(nodes)]
        self._version = self._renewals = 0
        knowledge = self.service.knowledge
        for name in self.names:
            knowledge.node(name, cordoned=False)
        self.renew()
        self.hear(self.changed(self.names))

    def renew(self) -> None:
        """Hear of every agent, and take what is known for current; it is so for 40 s."""
        self._renewals += 1
        for feed in Feed:
            self.service.knowledge.feed_synced(feed)
        for name in self.names:
            self.service.knowledge.lease(name, f"renewal-{self._renewals}")

    def changed(self, names: Iterable[str]) -> list[bytes]:
        """Return nodes after a change, as an API server would write them."""
        self._version += 1
        return [
            msgspec.json.encode(filled(name, self.chance, version=self._version)) for name in names
        ]

    def some_changed(self, count: int) -> list[bytes]:
        """Return so many nodes, of all, after a change."""
        return self.changed(self.chance.sample(self.names, min(count, len(self.names))))

    def hear(self, changed: Iterable[bytes]) -> None:
        """Take changed nodes in, as a watch brings them."""
        for raw in changed:
            self.service.knowledge.gpu_node(gpunode.decode(raw))


def ready(
    cluster: Cluster | None = None,
    *,
    solve: Solve = in_thread,
    evictor: Evictor | None = None,
    events: PodEvents | None = None,
    witness: Witness | None = None,
) -> Service:
    """Return a service that takes what it knows, which is nothing yet, for complete."""
    service = Service(
        cluster or KubernetesCluster(InMemoryApi()),
        solve=solve,
        evictor=evictor,
        events=events,
        seam=Seam(time.monotonic, witness),
    )
    for feed in Feed:
        service.knowledge.feed_synced(feed)
    return service
