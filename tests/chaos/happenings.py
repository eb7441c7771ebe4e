"""Making events happen: pods that come, go and come again; what goes wrong is in ``faults``."""

from __future__ import annotations

import asyncio
import contextlib

from nodeagent.apiserver.protocol import PODS, VIRTUAL_MACHINES, ApiError, PatchType
from tests.builders import VGPU
from tests.chaos import faults, orders
from tests.chaos.cluster import GANGS, VMS, Cluster
from tests.chaos.events import Event
from tests.chaos.pods import Pod

NAMES = tuple(f"vm-{n}" for n in range(10))
BURST = (3, 4)  # pods, at least and at most; three are one for the extender
WANTS = (
    *(["1-10C"], ["1-10C"], ["2-20C"], ["3-40C"], ["4-40C"], ["7-80C"]),
    *(["1-10C", "2-20C"], ["2-20C", "2-20C"], ["4-40C", "4-40C"]),
)
MOVERS_WANT = (["1-10C"], ["2-20C"], ["1-10C"], ["3-40C"], ["1-10C"], ["2-20C"], ["4-40C"])
MEMBERS_WANT = (["1-10C"], ["2-20C"], ["3-40C"], ["1-10C", "1-10C"])


async def happen(cluster: Cluster, event: Event) -> None:
    """Make *event* happen; what ends by itself ends in time."""
    cluster.happened[event.what] += 1
    later = cluster.loop.spawn_outside
    match event.what:
        case "arrive":
            await _arrive(cluster, event)
        case "burst":
            await _burst(cluster, event)
        case "gather":
            later(_gathered(cluster, event))
        case "scatter":
            await _scatter(cluster, event)
        case "restart":
            later(_restarted(cluster, event))
        case "retire":
            later(_retired(cluster, VMS[event.who % len(VMS)], event.seconds))
        case "depart" | "force away":
            await _deleted(cluster, event)
        case "replace":
            await _replace(cluster, event)
        case "finish":
            await _finish(cluster, event)
        case "order":
            later(orders.order(cluster, event))
        case "stop":
            later(orders.stop(cluster))
        case "restrain":
            later(orders.restrain(cluster, event))
        case "tighten" if cluster.owners is not None:
            later(cluster.owners.tighten(event.seconds))
        case _:
            await faults.befall(cluster, event)


def _pod(cluster: Cluster, event: Event) -> Pod | None:
    pods = sorted(cluster.judge.pods.values(), key=lambda pod: pod.name)
    return pods[event.who % len(pods)] if pods else None


def _wants(cluster: Cluster, who: int) -> list[str]:
    """Return what a pod wants; where VMs are moved they are small, and have one vGPU."""
    wants = WANTS if cluster.owners is None else MOVERS_WANT
    return wants[who % len(wants)]


def _free(cluster: Cluster) -> list[str]:
    there = {pod.vm for pod in cluster.judge.pods.values()}
    return [name for name in NAMES if name not in there]


async def _arrive(cluster: Cluster, event: Event) -> None:
    if free := _free(cluster):
        grace = 0 if event.much < 0.5 else 2
        await cluster.create_pod(free[event.who % len(free)], _wants(cluster, event.who), grace)


async def _burst(cluster: Cluster, event: Event) -> None:
    """Create some pods at once, which makes the extender plan them together."""
    least, most = BURST
    count = least + int(event.much * (most - least + 1))
    for at, name in enumerate(_free(cluster)[:count]):
        await cluster.create_pod(name, _wants(cluster, event.who + at), 0)


async def _gathered(cluster: Cluster, event: Event) -> None:
    """Create the members of a gang that are not there, now and then all but one."""
    members = GANGS[tuple(GANGS)[event.who % len(GANGS)]]
    for at, name in enumerate(members if event.much < 0.8 else members[1:]):
        wants = MEMBERS_WANT[(event.who + at) % len(MEMBERS_WANT)]
        await cluster.create_pod(name, wants, 0)
        await asyncio.sleep(event.much**3)


async def _scatter(cluster: Cluster, event: Event) -> None:
    """Delete all there is of a gang."""
    members = GANGS[tuple(GANGS)[event.who % len(GANGS)]]
    for name in members:
        with contextlib.suppress(ApiError):
            await cluster.api.delete(PODS, name, namespace="default")


async def _deleted(cluster: Cluster, event: Event) -> Pod | None:
    """Delete a pod, as it asks or by force; return which."""
    pod = _pod(cluster, event)
    if pod is None:
        return None
    grace = None if event.what == "depart" else 0
    try:
        await cluster.api.delete(PODS, pod.name, namespace="default", grace_seconds=grace)
    except ApiError:
        return None
    return pod


async def _replace(cluster: Cluster, event: Event) -> None:
    """Delete a pod and at once create another of its name, that may ask for something else."""
    pod = await _deleted(cluster, event)
    if pod is not None:
        await cluster.create_pod(pod.vm, _wants(cluster, int(event.much * len(WANTS))), 0)


async def _finish(cluster: Cluster, event: Event) -> None:
    pod = _pod(cluster, event)
    if pod is None or pod.phase != "Running":
        return
    with contextlib.suppress(ApiError):
        await cluster.api.patch(
            PODS,
            pod.name,
            {"status": {"phase": "Succeeded"}},
            patch_type=PatchType.MERGE,
            namespace="default",
            subresource="status",
        )


async def _restarted(cluster: Cluster, event: Event) -> None:
    """End a pod, and have its owner make another that asks the same, at once or after a while."""
    pod = _pod(cluster, event)
    if pod is None:
        return
    with contextlib.suppress(ApiError):
        await cluster.api.delete(PODS, pod.name, namespace="default", uid=pod.uid, grace_seconds=0)
    await asyncio.sleep(12.0 * event.much**3)
    await cluster.create_pod(pod.vm, [each.removeprefix(VGPU) for each in pod.wants], 0)


async def _retired(cluster: Cluster, vm: str, seconds: float) -> None:
    """Delete a VirtualMachine, and create another of that name after a while."""
    with contextlib.suppress(ApiError):
        await cluster.api.delete(VIRTUAL_MACHINES, vm, namespace="default")
    await asyncio.sleep(seconds)
    await cluster.create_vm(vm)
