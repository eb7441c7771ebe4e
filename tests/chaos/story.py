"""What happens: drawn from a seed, made to happen, and judged to the end."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterable, Sequence

import msgspec

from nodeagent.apiserver.protocol import (
    GPU_NODES,
    PODS,
    VIRTUAL_MACHINES,
    ApiError,
    PatchType,
)
from tests.builders import VGPU
from tests.chaos import loop as loops
from tests.chaos.cluster import NODE_NAMES, REPLICAS, VMS, Cluster
from tests.chaos.loop import SeededLoop
from tests.chaos.wire import ROUGH

EVENTS = 200
MEAN_PAUSE_SECONDS = 0.4
SETTLED_WITHIN_SECONDS = 150.0
LOOKED_AT_EVERY_SECONDS = 3.0
NAMES = tuple(f"vm-{n}" for n in range(9))
WATCHED = ("pods", "pods", "gpunodes", "leases", "nodes")
WANTS = (["1-10C"], ["1-10C"], ["2-20C"], ["3-40C"], ["4-40C"], ["7-80C"], ["1-10C", "2-20C"])

LIKELIHOOD = {
    "arrive": 60,
    "depart": 34,
    "force away": 6,
    "replace": 12,
    "finish": 4,
    "restart": 24,
    "retire": 2,
    "kill extender": 6,
    "dismiss extender": 3,
    "freeze extender": 6,
    "cut extender off": 5,
    "kill agent": 8,
    "freeze agent": 3,
    "cut agent off": 4,
    "reboot": 2,
    "lose GPU": 1,
    "reset GPU": 1,
    "create by hand": 5,
    "destroy by hand": 6,
    "delete GpuNode": 2,
    "rough network": 22,
    "rough GPUs": 6,
    "rough disk": 2,
    "break GPUs": 4,
    "stick watches": 6,
    "drop watches": 5,
    "compact": 3,
}


class Event(msgspec.Struct, frozen=True):
    """Something that happens *after* so many seconds; *who* chooses, *much* is in [0, 1)."""

    after: float
    what: str
    who: int
    much: float

    def __str__(self) -> str:
        return f"+{self.after:6.3f} s  {self.what:18} who={self.who} much={self.much:.3f}"


class Outcome(msgspec.Struct, frozen=True):
    """How a history ended: what was *broken*, and how much there was of it."""

    seed: int
    broken: tuple[str, ...]
    api_calls: int = 0
    binds: int = 0
    inherited: int = 0
    seconds: float = 0.0


def drawn(seed: int, events: int = EVENTS) -> tuple[Event, ...]:
    """Return what happens under a seed."""
    chance = random.Random(f"story {seed}")
    kinds, weights = tuple(LIKELIHOOD), tuple(LIKELIHOOD.values())
    return tuple(
        Event(
            round(chance.expovariate(1 / MEAN_PAUSE_SECONDS), 3),
            chance.choices(kinds, weights)[0],
            chance.randrange(1000),
            chance.randrange(1000) / 1000,
        )
        for _ in range(events)
    )


def tell(seed: int, events: Sequence[Event], *, tidy: bool = True) -> Outcome:
    """Let *events* happen, then let all come to rest; the same arguments, the same outcome.

    For *tidy* see :func:`tests.chaos.loop.run`.
    """
    random.seed(seed)  # the code's own jitter
    chance = random.Random(f"order {seed}")
    return loops.run(lambda loop: _told(loop, chance, seed, events), chance, tidy=tidy)


async def _told(
    loop: SeededLoop, chance: random.Random, seed: int, events: Iterable[Event]
) -> Outcome:
    cluster = Cluster(loop, chance)
    await cluster.start()
    await asyncio.sleep(5.0)
    for event in events:
        await asyncio.sleep(event.after)
        await _happen(cluster, event)
        if cluster.judge.violations:
            break
    cluster.heal()
    left: list[str] = []
    if not cluster.judge.violations:
        left = await _at_rest(cluster)
    if not cluster.judge.violations and not left:
        await _all_leave(cluster)
        left = await _at_rest(cluster)
    return Outcome(
        seed,
        (*cluster.judge.violations, *(f"in the end: {each}" for each in left)),
        cluster.network.calls,
        cluster.scheduler.binds,
        cluster.judge.holds.inherited,
        loop.time(),
    )


async def _at_rest(cluster: Cluster) -> list[str]:
    """Wait until all is as it should be; return what is not when the time is up."""
    for name in NODE_NAMES:
        cluster.loop.spawn_outside(cluster.restart_agent(name, 1.0))
    for name in REPLICAS:
        cluster.loop.spawn_outside(cluster.restart_extender(name, 1.0))
    ends = cluster.loop.time() + SETTLED_WITHIN_SECONDS
    while cluster.loop.time() < ends:
        await asyncio.sleep(LOOKED_AT_EVERY_SECONDS)
        if cluster.judge.violations:
            return []
        if not cluster.scheduler.busy and not any(cluster.judge.unsettled()):
            return []
    return list(cluster.judge.unsettled())


async def _all_leave(cluster: Cluster) -> None:
    """Delete every pod: nothing of theirs may be left behind."""
    for pod in tuple(cluster.judge.pods.values()):
        with contextlib.suppress(ApiError):
            await cluster.api.delete(PODS, pod.name, namespace="default", uid=pod.uid)


async def _happen(cluster: Cluster, event: Event) -> None:
    """Make *event* happen; what ends by itself ends in time."""
    seconds = 0.5 + 12.0 * event.much
    later = cluster.loop.spawn_outside
    replica = REPLICAS[event.who % len(REPLICAS)]
    node = NODE_NAMES[event.who % len(NODE_NAMES)]
    match event.what:
        case "arrive":
            await _arrive(cluster, event)
        case "restart":
            later(_restarted(cluster, event))
        case "retire":
            later(_retired(cluster, VMS[event.who % len(VMS)], seconds))
        case "depart" | "force away" | "replace" | "finish":
            await _end_pod(cluster, event)
        case "kill extender":
            cluster.kill_extender(replica)
            later(cluster.restart_extender(replica, seconds / 2))
        case "dismiss extender":
            cluster.dismiss_extender(replica)
            later(cluster.restart_extender(replica, seconds / 2))
        case "freeze extender":
            later(_frozen(cluster, replica, seconds))
        case "freeze agent":
            later(_frozen(cluster, node, seconds))
        case "cut extender off":
            later(_cut_off(cluster, replica, seconds))
        case "cut agent off":
            later(_cut_off(cluster, node, seconds))
        case "kill agent":
            cluster.kill_agent(node)
            later(cluster.restart_agent(node, seconds / 2))
        case "rough network":
            later(_rough_network(cluster, ROUGH[event.who % len(ROUGH)], seconds))
        case "rough GPUs":
            later(_rough_gpus(cluster, node, seconds))
        case "break GPUs":
            later(_broken_gpus(cluster, node, 3.0 * seconds))
        case "rough disk":
            later(_rough_disk(cluster, node, seconds))
        case "stick watches":
            later(_stuck_watches(cluster, WATCHED[event.who % len(WATCHED)], 2 * seconds))
        case "drop watches":
            cluster.network.drop_watches(gone=False)
        case "compact":
            cluster.network.drop_watches(gone=True)
        case "delete GpuNode":
            await _delete_gpu_node(cluster, node)
        case _:
            _befall_gpu(cluster, event)


async def _arrive(cluster: Cluster, event: Event) -> None:
    there = {pod.name for pod in cluster.judge.pods.values()}
    free = [name for name in NAMES if name not in there]
    if free:
        grace = 0 if event.much < 0.5 else 2
        await cluster.create_pod(free[event.who % len(free)], WANTS[event.who % len(WANTS)], grace)


async def _end_pod(cluster: Cluster, event: Event) -> None:
    pods = sorted(cluster.judge.pods.values(), key=lambda pod: pod.name)
    if not pods:
        return
    pod = pods[event.who % len(pods)]
    try:
        if event.what == "finish":
            if pod.phase == "Running":
                await cluster.api.patch(
                    PODS,
                    pod.name,
                    {"status": {"phase": "Succeeded"}},
                    patch_type=PatchType.MERGE,
                    namespace="default",
                    subresource="status",
                )
            return
        grace = None if event.what == "depart" else 0
        await cluster.api.delete(PODS, pod.name, namespace="default", grace_seconds=grace)
    except ApiError:
        return
    if event.what == "replace":
        await cluster.create_pod(pod.name, WANTS[int(event.much * len(WANTS))], 0)


async def _restarted(cluster: Cluster, event: Event) -> None:
    """End a pod, and have its owner make another that asks the same, at once or after a while."""
    pods = sorted(cluster.judge.pods.values(), key=lambda pod: pod.name)
    if not pods:
        return
    pod = pods[event.who % len(pods)]
    with contextlib.suppress(ApiError):
        await cluster.api.delete(PODS, pod.name, namespace="default", uid=pod.uid, grace_seconds=0)
    await asyncio.sleep(12.0 * event.much**3)
    await cluster.create_pod(pod.name, [each.removeprefix(VGPU) for each in pod.wants], 0)


async def _retired(cluster: Cluster, vm: str, seconds: float) -> None:
    """Delete a VirtualMachine, and create another of that name after a while."""
    with contextlib.suppress(ApiError):
        await cluster.api.delete(VIRTUAL_MACHINES, vm, namespace="default")
    await asyncio.sleep(seconds)
    await cluster.create_vm(vm)


async def _delete_gpu_node(cluster: Cluster, node: str) -> None:
    try:
        await cluster.api.delete(GPU_NODES, node)
    except ApiError:
        return
    cluster.judge.upheaval(*(gpu.uuid for gpu in cluster.hardware[node].gpus))


def _befall_gpu(cluster: Cluster, event: Event) -> None:
    """Do to a GPU what nobody asked us about."""
    name, gpu = cluster.gpu(event.who)
    hardware, judge = cluster.hardware[name], cluster.judge
    match event.what:
        case "reboot":
            cluster.kill_agent(name)
            cluster.boards[name].power_off()
            for each in hardware.gpus:
                each.lost = False
            hardware.reboot()
            judge.upheaval(*(each.uuid for each in hardware.gpus))
            cluster.loop.spawn_outside(cluster.restart_agent(name, 2.0 + 8.0 * event.much))
        case "lose GPU" if not gpu.lost:
            gpu.lost = True
            judge.upheaval(gpu.uuid)
            cluster.loop.spawn_outside(_revived(cluster, event.who, 3.0 + 20.0 * event.much))
        case "reset GPU" if not gpu.lost:
            gpu.reset()
            judge.upheaval(gpu.uuid)
        case "create by hand" if not gpu.lost:
            taken = sum(each.placement.mask for each in gpu.instances.values())
            profile = gpu.geometry.profiles[event.who % len(gpu.geometry.profiles)]
            # Nobody could tell an exact double of what ours were from ours.
            ours = {m.placement for m in cluster.disks[name].made if m.profile_id == profile.id}
            free = [p for p in profile.placements if not p.mask & taken and p not in ours]
            alike = sum(each.profile_id == profile.id for each in gpu.instances.values())
            if free and alike < profile.max_instances:
                made = gpu.create(profile.id, free[event.who % len(free)])
                judge.foreign.add((gpu.uuid, made))
        case "destroy by hand" if not gpu.lost:
            idle = sorted(gi_id for gi_id in gpu.instances if not gpu.clients.get(gi_id))
            foreign = [gi_id for gi_id in idle if (gpu.uuid, gi_id) in judge.foreign]
            # Mostly what they made themselves.
            chosen = foreign if event.much < 0.8 else idle
            if chosen:
                gi_id = chosen[event.who % len(chosen)]
                made_by_us = (gpu.uuid, gi_id) not in judge.foreign
                gpu.destroy(gi_id)
                judge.foreign.discard((gpu.uuid, gi_id))
                if made_by_us:
                    judge.upheaval(gpu.uuid)


async def _revived(cluster: Cluster, who: int, after: float) -> None:
    await asyncio.sleep(after)
    _, gpu = cluster.gpu(who)
    if gpu.lost:
        cluster.revive(gpu)


async def _frozen(cluster: Cluster, name: str, seconds: float) -> None:
    extender = cluster.extenders.get(name)
    process = extender.process if extender else cluster.agents.get(name)
    if process is not None:
        cluster.loop.freeze(process)
        await asyncio.sleep(seconds)
        cluster.loop.thaw(process)


async def _cut_off(cluster: Cluster, name: str, seconds: float) -> None:
    cluster.network.cut.add(name)
    await asyncio.sleep(seconds)
    cluster.network.rejoin(name)


async def _rough_network(cluster: Cluster, kind: str, seconds: float) -> None:
    cluster.network.rough[kind] = 0.3
    await asyncio.sleep(seconds)
    cluster.network.rough.pop(kind, None)


async def _stuck_watches(cluster: Cluster, kind: str, seconds: float) -> None:
    cluster.network.stick(kind)
    await asyncio.sleep(seconds)
    cluster.network.unstick(kind)


async def _rough_gpus(cluster: Cluster, node: str, seconds: float) -> None:
    cluster.boards[node].rough = 0.15
    await asyncio.sleep(seconds)
    cluster.boards[node].rough = 0.0


async def _broken_gpus(cluster: Cluster, node: str, seconds: float) -> None:
    cluster.boards[node].broken = True
    await asyncio.sleep(seconds)
    cluster.boards[node].broken = False


async def _rough_disk(cluster: Cluster, node: str, seconds: float) -> None:
    cluster.disks[node].rough = 0.5
    await asyncio.sleep(seconds)
    cluster.disks[node].rough = 0.0
