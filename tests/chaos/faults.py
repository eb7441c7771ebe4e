"""What goes wrong: with processes, with the network, with GPUs and by other people's hands."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import msgspec

from nodeagent.api import gpunode
from nodeagent.apiserver.protocol import GPU_NODES, ApiError
from tests.chaos.cluster import NODE_NAMES, REPLICAS, Cluster
from tests.chaos.events import Event
from tests.chaos.wire import DOUBT, LATE_BINDING, ROUGH

WATCHED = ("pods", "pods", "gpunodes", "leases", "nodes")


async def befall(cluster: Cluster, event: Event) -> None:
    """Let something go wrong; what ends by itself ends in time."""
    seconds = event.seconds
    later = cluster.loop.spawn_outside
    replica = REPLICAS[event.who % len(REPLICAS)]
    node = NODE_NAMES[event.who % len(NODE_NAMES)]
    match event.what:
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
        case "doubt":
            later(_in_doubt(cluster, DOUBT if event.who % 2 else (LATE_BINDING,), seconds))
        case "stall":
            # Longer than a leader may write after its last renewal, and than others wait.
            cluster.network.stalled[replica] = 5.0 + 4.5 * event.much
        case "rough GPUs":
            later(_rough_gpus(cluster, node, seconds))
        case "break GPUs":
            later(_broken_gpus(cluster, node, 3.0 * seconds))
        case "rough disk":
            later(_rough_disk(cluster, node, seconds))
        case "stick watches":
            later(_stuck_watches(cluster, WATCHED[event.who % len(WATCHED)], 2 * seconds))
        case "cordon":
            later(_cordoned(cluster, node, 2 * seconds))
        case "remove Node":
            later(_removed(cluster, node, 2 * seconds))
        case "step clock":
            cluster.step_clock((*REPLICAS, *NODE_NAMES)[event.who % 4])
        case "drop watches":
            cluster.network.drop_watches(gone=False)
        case "compact":
            cluster.network.drop_watches(gone=True)
        case "delete GpuNode":
            with contextlib.suppress(ApiError):
                await cluster.api.delete(GPU_NODES, node)
        case "replace GpuNode":
            later(_replaced(cluster, node, event))
        case _:
            _befall_gpu(cluster, event)


def _befall_gpu(cluster: Cluster, event: Event) -> None:
    """Do to a GPU what nobody asked us about."""
    name, gpu = cluster.gpu(event.who)
    hardware, judge = cluster.hardware[name], cluster.judge
    match event.what:
        case "reboot":
            cluster.kill_agent(name)
            cluster.boards[name].power_off()
            with judge.upheaval(*hardware.gpus):
                for each in hardware.gpus:
                    each.lost = False
                hardware.reboot()
            cluster.loop.spawn_outside(cluster.restart_agent(name, 2.0 + 8.0 * event.much))
        case "lose GPU" if not gpu.lost:
            with judge.upheaval(gpu):
                gpu.lost = True
            cluster.loop.spawn_outside(_revived(cluster, event.who, 3.0 + 20.0 * event.much))
        case "reset GPU" if not gpu.lost:
            with judge.upheaval(gpu):
                gpu.reset()
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
                if (gpu.uuid, gi_id) in judge.foreign:
                    gpu.destroy(gi_id)
                    judge.foreign.discard((gpu.uuid, gi_id))
                else:
                    with judge.upheaval(gpu):
                        gpu.destroy(gi_id)


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


async def _cordoned(cluster: Cluster, node: str, seconds: float) -> None:
    await cluster.cordon(node, shut=True)
    await asyncio.sleep(seconds)
    await cluster.cordon(node, shut=False)


async def _replaced(cluster: Cluster, node: str, event: Event) -> None:
    """Have somebody's tool delete a GpuNode and make it anew, if nobody else was faster.

    Empty, or with what its plan had for pods before: some of them may have gone meanwhile.
    """
    with contextlib.suppress(ApiError):
        plan = gpunode.decode(await cluster.api.get(GPU_NODES, node)).spec.assignments
        await cluster.api.delete(GPU_NODES, node)
        await asyncio.sleep(3.0 * max(0.0, event.much - 0.5))
        empty = event.who // len(NODE_NAMES) % 2
        had = [] if empty else [entry for entry in plan if entry.pod is not None]
        body = {"metadata": {"name": node}, "spec": {"assignments": msgspec.to_builtins(had)}}
        await cluster.api.create(GPU_NODES, body)


async def _removed(cluster: Cluster, node: str, seconds: float) -> None:
    await cluster.remove_node(node)
    await asyncio.sleep(seconds)
    await cluster.add_node(node)


async def _rough_network(cluster: Cluster, kind: str, seconds: float) -> None:
    cluster.network.rough[kind] = 0.3
    await asyncio.sleep(seconds)
    cluster.network.rough.pop(kind, None)


async def _in_doubt(cluster: Cluster, kinds: Sequence[str], seconds: float) -> None:
    """Leave open whether pods are bound, and let no watch tell it either for twice as long."""
    cluster.network.rough.update(dict.fromkeys(kinds, 0.9))
    cluster.network.stick("pods")
    await asyncio.sleep(seconds)
    for kind in kinds:
        cluster.network.rough.pop(kind, None)
    await asyncio.sleep(seconds)
    cluster.network.unstick("pods")


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
