"""A site (``benchmarks.populated``) in an API server, whose nodes change and VMs come and go."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from benchmarks import populated, residents
from benchmarks.http import Connection
from benchmarks.populated import GPUS, NAMESPACE, RESOURCES, SMALL, Vm
from extender import wire
from nodeagent.api import gpunode
from nodeagent.apiserver.history import Write
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import GPU_NODES, PODS, ApiServer, Kind, PatchType

CANDIDATES = 50  # nodes a VM of the lives may go to
LEFT = 4  # GPUs whose VMs end before those of the lives come
WRITERS = 16
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

    def __init__(self, api: ApiServer, nodes: int, per_gpu: int | None, *, seed: int) -> None:
        self.api = api
        self.chance = random.Random(seed)
        instances = None if per_gpu is None else nodes * GPUS * per_gpu
        self.site = populated.drawn(nodes, instances, pending=1, seed=seed)
        self.names = list(self.site.nodes)
        self.written = 0

    @property
    def in_use(self) -> list[str]:
        """The nodes on which a VM may be placed."""
        out_of_use = self.site.cordoned | self.site.leaseless
        return [name for name in self.names if name not in out_of_use]

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
        """Change nodes, so many a second if the API server lets us, until cancelled."""
        names = [name for name in self.names if name != besides]
        writers = min(WRITERS, len(names))
        async with asyncio.TaskGroup() as tasks:
            for number in range(writers):
                work = self._write(names[number::writers], per_second / writers)
                tasks.create_task(work, name=f"writer-{number}")

    async def _write(self, names: Sequence[str], per_second: float) -> None:
        started = time.perf_counter()
        for count in itertools.count(1):
            await self.change(self.chance.choice(names))
            self.written += 1
            await asyncio.sleep(max(0.0, started + count / per_second - time.perf_counter()))

    async def leave(self, count: int) -> list[str]:
        """Let the VMs of so many GPUs end; return their nodes, when they are free."""
        left: list[str] = []
        gone: list[str] = []
        for name in self.in_use:
            node = self.site.nodes[name]
            gpu = node.status.gpus[0]
            if len(left) < count and not gpu.unhealthy:
                left.append(name)
                gone += [a.id for a in node.spec.assignments if a.gpu == gpu.uuid]
        for name in gone:
            await self.api.delete(PODS, name, namespace=NAMESPACE, grace_seconds=0)
        await self.forgotten(left, gone)
        for name in left:
            now = gpunode.decode(await self.api.get(GPU_NODES, name))
            if now.status.gpus[0].unhealthy:
                await self.change(name)  # back to health
        return left

    async def forgotten(self, nodes: Sequence[str], vms: Sequence[str]) -> None:
        """Wait until the nodes' plans have nothing of the VMs, and each agent has seen it."""
        told = [f'"{vm}"'.encode() for vm in vms]
        async with asyncio.timeout(WITHIN_SECONDS):
            for name in nodes:
                while True:
                    raw = await self.api.get(GPU_NODES, name)
                    node = gpunode.decode(raw)
                    behind = node.status.observed_generation < node.metadata.generation
                    if not behind and not any(each in raw for each in told):
                        break
                    await asyncio.sleep(0.05)


async def lives(cluster: Cluster, twin: InMemoryApi, connection: Connection, *, count: int) -> Row:
    """Let VMs come and go, and count what is written for them."""
    room = await cluster.leave(LEFT)
    written = Written()
    twin.witnessed_by(written)
    bound, vms = 0, [f"life-{index:03}" for index in range(count)]
    for index, name in enumerate(vms):
        vm = Vm(name, wanted=RESOURCES[SMALL[index % len(SMALL)]])
        pod = await cluster.api.create(PODS, residents.pod(vm), namespace=NAMESPACE)
        bound += await _bound(cluster, connection, pod, room)
        await cluster.api.delete(PODS, vm.name, namespace=NAMESPACE, grace_seconds=0)
    await cluster.forgotten(cluster.names, vms)
    told = {"gpunodes": "gpunode", "pods": "pod"}
    return {
        "lives": bound,
        **{f"writes_{name}": round(written.writes[kind] / bound, 2) for kind, name in told.items()},
        **{f"bytes_{name}": round(written.bytes[kind] / bound) for kind, name in told.items()},
    }


def asked_about(pod: bytes, names: Sequence[str]) -> bytes:
    """Return what kube-scheduler asks about a pod and nodes."""
    return msgspec.json.encode({"Pod": msgspec.Raw(pod), "Nodes": None, "NodeNames": names})


async def passed(connection: Connection, pod: bytes, names: Sequence[str]) -> Sequence[str]:
    """Return the nodes that filter lets pass: prioritize is asked about no others."""
    answer = await connection.post("filter", asked_about(pod, names))
    return msgspec.json.decode(answer, type=wire.FilterResult).node_names or ()


async def _bound(cluster: Cluster, connection: Connection, pod: bytes, room: Sequence[str]) -> bool:
    """Take a pod through the hooks as kube-scheduler does; tell whether it is bound.

    It may go to some nodes, and to those where there is surely *room*.
    """
    others = cluster.chance.sample(cluster.names, min(CANDIDATES, len(cluster.names)))
    names = tuple(dict.fromkeys((*room, *others)))

    nodes: Sequence[str] = ()
    async with asyncio.timeout(WITHIN_SECONDS):
        while not nodes:  # what was left is free when the extender has seen that, too
            nodes = await passed(connection, pod, names)
            await asyncio.sleep(0.01)
    scores = msgspec.json.decode(
        await connection.post("prioritize", asked_about(pod, nodes)),
        type=tuple[wire.HostPriority, ...],
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
