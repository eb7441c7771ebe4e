"""What must hold once all has come to rest, in the objects and on the GPUs themselves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from nodeagent.api.gpunode import GpuNode, Plan
from nodeagent.apiserver.protocol import PODS, NotFound
from tests.e2e.chaos.census import Census
from tests.e2e.chaos.machines import Machine
from tests.e2e.chaos.site import Site
from tests.e2e.chaos.spots import Spot, spot
from tests.e2e.judge import violations
from tests.e2e.room import missed

QUIET_SECONDS = 3.0
SETTLES_WITHIN_SECONDS = 90.0  # kube-scheduler lets a pod whose bind failed wait 10 s at most
LOOKS_EVERY_SECONDS = 0.5


async def settled(site: Site, census: Census) -> list[str]:
    """Wait until nothing more happens and all is as it must be; else return what is not.

    What is not for this long is broken: on the way there, a plan may be ahead of its inventory.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SETTLES_WITHIN_SECONDS
    wrong = ["it is written on and on"]
    while True:
        await asyncio.sleep(LOOKS_EVERY_SECONDS)
        if loop.time() - census.last_write >= QUIET_SECONDS:
            await _collect(site)
            wrong = await _wrong(site)
            if not wrong:
                return []
        if loop.time() > deadline:
            return [f"not right after {SETTLES_WITHIN_SECONDS:g} s: {each}" for each in wrong]


async def _collect(site: Site) -> None:
    """Remove pods that are being deleted and nowhere, as the pod garbage collector would.

    An API server that is killed amid the deletion of one leaves it so: there is no kubelet for it.
    """
    for pod in (await site.pods()).values():
        meta = pod["metadata"]
        if "deletionTimestamp" in meta and not pod["spec"].get("nodeName"):
            with contextlib.suppress(NotFound):
                await site.api.delete(
                    PODS,
                    meta["name"],
                    namespace=meta["namespace"],
                    uid=meta["uid"],
                    grace_seconds=0,
                )


async def _wrong(site: Site) -> list[str]:
    nodes, pods = await site.gpu_nodes(), await site.pods()
    foreign = [(each.gpu, each.profile_id, each.start) for each in site.foreign]
    found = list(violations(nodes, pods, foreign))
    found += [f"{name} would fit and is pending" for name in missed(without_holds(nodes), pods)]
    found += [
        f"{name} is being deleted for ever"
        for name, pod in pods.items()
        if "deletionTimestamp" in pod["metadata"]
    ]
    for node in nodes:
        found += on_machine(node, pods, site.machines()[node.name], site.foreign)
    return found


def without_holds(nodes: Iterable[GpuNode]) -> list[GpuNode]:
    """Return the nodes without the places held for VMs that restart: they are given back in time.

    Their entries leave the plan when their time is over.
    """
    return [
        msgspec.structs.replace(
            node, spec=Plan(tuple(entry for entry in node.spec.assignments if entry.pod))
        )
        for node in nodes
    ]


def on_machine(
    node: GpuNode, pods: Mapping[str, Mapping[str, Any]], machine: Machine, foreign: frozenset[Spot]
) -> Iterator[str]:
    """Yield what is on a node's GPUs otherwise than its plan says, and who does not use its own."""
    uuids = {gpu.uuid for gpu in machine.gpus}
    bound = {pod["metadata"]["uid"] for pod in pods.values() if pod["spec"].get("nodeName")}
    due = {spot(e): {e.pod.uid} & bound for e in node.spec.assignments if e.pod}
    due |= {place: set() for place in foreign if place.gpu in uuids}
    there = machine.spots
    for place in there.keys() - due.keys():
        yield f"leaked: on {node.name} there is {place}"
    for place in due.keys() - there.keys():
        yield f"lost: on {node.name} there is no {place}"
    for place in due.keys() & there.keys():
        if due[place] != there[place]:
            yield f"lost: {place} is used by {there[place]} instead of {due[place]}"
