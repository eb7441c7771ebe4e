"""An extender beside an API server for a while: VMs leave and come, agents do what is planned."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import random
import time
from collections.abc import AsyncIterator, Sequence

import msgspec

from benchmarks import residents
from benchmarks.populated import NAMESPACE, RESOURCES, SMALL, Site, Vm
from extender import wire
from extender.cluster import Replica
from extender.policy import InForce, PolicyName
from extender.service import Service
from extender.settings import Settings
from nodeagent.api import gpunode, keys
from nodeagent.api.gpunode import GpuNode
from nodeagent.apiserver.protocol import GPU_NODES, LEASES, PODS, ApiServer, PatchType
from nodeagent.apiserver.reflector import Replaced, Upserted, reflect

# Agents that never renew are never silent, and no place runs out of time: neither is looked at.
SETTINGS = Settings(lease_missed_seconds=1e9, reservation_seconds=1e9)
SHARE_CHANGED = 0.02  # of the VMs leave, and as many come
LOOKED_AT_EVERY_SECONDS = 0.01
WITHIN_SECONDS = 300.0
RENEWED_SECONDS = 20.0  # each agent's Lease; silent for 40 s, it would be taken for dead


class Started(msgspec.Struct):
    """A running extender, and what its start took, in seconds."""

    service: Service
    ready: float
    processor: float
    stall: float


@contextlib.asynccontextmanager
async def started(
    api: ApiServer, policy: InForce | PolicyName = PolicyName.DEFAULT
) -> AsyncIterator[Started]:
    """Run an extender until the block ends, which begins when it would answer."""
    replica = Replica(api, SETTINGS, policy)
    stop, stall = asyncio.Event(), 0.0
    gc.collect()
    began, worked = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(replica.run(stop), name="extender")
        while replica.service.knowledge.not_ready():
            before = time.perf_counter()
            await asyncio.sleep(LOOKED_AT_EVERY_SECONDS)
            stall = max(stall, time.perf_counter() - before - LOOKED_AT_EVERY_SECONDS)
        took = time.perf_counter() - began, time.process_time() - worked
        try:
            yield Started(replica.service, *took, stall)
        finally:
            stop.set()


@contextlib.asynccontextmanager
async def agents(api: ApiServer) -> AsyncIterator[None]:
    """Let every agent make what is planned from now on, until the block ends."""

    planned: dict[str, GpuNode] = {}
    at_work: set[str] = set()

    async def obey(name: str) -> None:
        """Be the agent of a node until there is nothing new for it."""
        while name in planned:
            await residents.report(api, name, residents.obeyed(planned.pop(name)))
        at_work.discard(name)

    async def follow() -> None:
        async with contextlib.aclosing(reflect(api, GPU_NODES)) as changes:
            async for change in changes:
                if isinstance(change, Upserted):
                    node = gpunode.decode(change.object.raw)
                    if node.status.observed_generation < node.metadata.generation:
                        planned[node.name] = node
                        if node.name not in at_work:
                            at_work.add(node.name)
                            tasks.create_task(obey(node.name), name=f"agent-{node.name}")
                elif isinstance(change, Replaced):
                    listed.set()

    listed = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(follow(), name="agents")
        await listed.wait()
        try:
            yield
        finally:
            following.cancel()


async def renew(api: ApiServer, nodes: Sequence[str]) -> None:
    """Renew the Leases of these nodes' agents one after the other, until cancelled."""
    at_once = 1 + len(nodes) // 1_000
    for turn in itertools.count():
        for at in range(turn * at_once, (turn + 1) * at_once):
            await api.patch(
                LEASES,
                keys.lease_name(nodes[at % len(nodes)]),
                {"spec": {"leaseTransitions": turn}},
                patch_type=PatchType.MERGE,
                namespace=keys.SYSTEM_NAMESPACE,
            )
        await asyncio.sleep(RENEWED_SECONDS * at_once / len(nodes))


async def live(api: ApiServer, service: Service, site: Site, *, seed: int) -> int:
    """Let VMs leave and others come, through the hooks; return how many were bound."""
    chance = random.Random(seed)
    count = max(1, round(SHARE_CHANGED * site.assignments))
    bound = [vm for vm in site.vms.values() if vm.node and not vm.gang]
    for vm in chance.sample(bound, count):
        await api.delete(PODS, vm.name, namespace=NAMESPACE, grace_seconds=0)
        del site.vms[vm.name]
    names = tuple(site.nodes)
    gate = asyncio.Semaphore(residents.AT_ONCE)

    async def come(index: int) -> bool:
        vm = Vm(f"late-{index:05}", wanted=RESOURCES[chance.choice(SMALL)])
        async with gate:
            pod = await api.create(PODS, residents.pod(vm), namespace=NAMESPACE)
            args = asked(pod, chance.sample(names, min(len(names), 50)))
            passed = service.hooks.filter(args).node_names
            if not passed:
                return False
            ranked = service.hooks.prioritize(asked(pod, passed))
            winner = max(ranked, key=lambda each: each.score).host
            reply = await service.binder.bind(
                wire.BindingArgs(vm.name, NAMESPACE, args.pod.metadata.uid, winner)
            )
            return not reply.error

    came = sum(await asyncio.gather(*map(come, range(count))))
    async with asyncio.timeout(WITHIN_SECONDS):
        while True:
            if _at_rest(service):
                return came
            await asyncio.sleep(0.1)


def _at_rest(service: Service) -> bool:
    """Tell whether nothing is promised or on its way, and every agent has seen its plan."""
    knowledge = service.knowledge
    if knowledge.ledger.assumed or knowledge.ledger.presumed or knowledge.suspects:
        return False
    alive = {pod.ref.uid for pod in knowledge.pods.values()}
    if not knowledge.assigned.keys() <= alive:
        return False
    return all(
        view.node.status.observed_generation >= view.node.metadata.generation and not view.releasing
        for view in knowledge.views.values()
    )


def asked(pod: bytes, names: Sequence[str]) -> wire.ExtenderArgs:
    """Return what kube-scheduler asks about a pod."""
    body = {"Pod": msgspec.Raw(pod), "Nodes": None, "NodeNames": names}
    return wire.decode(msgspec.json.encode(body), wire.ExtenderArgs)
