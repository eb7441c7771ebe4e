"""KubeVirt's part where VMs are moved: pods made again, migrations, and disruption budgets.

Of the VMs some are guarded by a budget, which may be tight for a while; of those one may be stopped
though its eviction is refused. One is migrated while it runs, if that does not fail, and the next
pod of another often finds a single node to go to, which need not be where a place is held for it.
A pod that nobody here was asked to end is not made again: somebody has shut its VM down.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from nodeagent.api import keys
from nodeagent.apiserver.history import Write
from nodeagent.apiserver.protocol import (
    MIGRATIONS,
    POD_DISRUPTION_BUDGETS,
    PODS,
    VIRTUAL_MACHINE_INSTANCES,
    VIRTUAL_MACHINES,
    ApiError,
    Kind,
    NotFound,
    PatchType,
)
from tests.builders import VGPU
from tests.chaos.pods import Pod

if TYPE_CHECKING:
    from tests.chaos.cluster import Cluster

GUARDED = ("vm-2", "vm-3", "vm-5")
RESTARTABLE = "vm-3"
MIGRATABLE = "vm-1"
ASTRAY = "vm-4"
OFTEN = 0.5  # how often the next pod of that VM has one node to go to
FAILS = 0.2  # how often a migration fails at once
LOOKED_AT_EVERY_SECONDS = 0.5
STARTED_WITHIN_LOOKS = 24
_OF_VM = "vm"
"""The label of a VM's pods by which its budget is about them."""


class Owners:
    """Makes the pods of a *cluster*'s VMs again that were made to leave."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._instances: dict[str, str] = {}
        self._tight = 0
        self._astray = True
        self._made = 0
        self._stopped: set[str] = set()

    async def start(self) -> None:
        """Create what there is besides VMs and pods."""
        api = self._cluster.api
        api.register(VIRTUAL_MACHINE_INSTANCES)
        api.register(MIGRATIONS)
        for name in (RESTARTABLE, MIGRATABLE):
            await self._run(name)
        ready = {"status": {"conditions": [{"type": "LiveMigratable", "status": "True"}]}}
        await self._told(VIRTUAL_MACHINE_INSTANCES, MIGRATABLE, ready)
        for name in GUARDED:
            body = {
                "metadata": {"name": name},
                "spec": {"selector": {"matchLabels": {_OF_VM: name}}},
            }
            await api.create(POD_DISRUPTION_BUDGETS, body, namespace="default")
        await self._allow(1)

    def marked(self, pod: dict[str, Any], vm: str) -> None:
        """Write into a pod of a VM what says whose it is, and how it may be moved."""
        pod["metadata"]["labels"][_OF_VM] = vm
        if vm == RESTARTABLE:
            pod["metadata"].setdefault("annotations", {})[keys.MOVABLE] = "restart"
        if vm in self._instances:
            pod["metadata"]["ownerReferences"][0]["uid"] = self._instances[vm]

    def nodes(self, vm: str) -> tuple[str, ...]:
        """Return where kube-scheduler lets a VM's next pod go, () for anywhere."""
        chance = self._cluster.chance
        if vm != ASTRAY or not self._astray or chance.random() >= OFTEN:
            return ()
        return (chance.choice(tuple(self._cluster.hardware)),)

    async def tighten(self, seconds: float) -> None:
        """Let no guarded pod be evicted for a while."""
        self._tight += 1
        await self._allow(0)
        await asyncio.sleep(seconds)
        self._tight = max(0, self._tight - 1)
        if not self._tight:
            await self._allow(1)

    async def relent(self) -> None:
        """Let guarded pods be evicted again, and each pod go to any node."""
        self._tight, self._astray = 0, False
        await self._allow(1)

    # What is seen.

    def wrote(self, kind: Kind, write: Write, gone: Pod | None) -> None:
        """See a write, by which a pod may have *gone*."""
        later, (_, name) = self._cluster.loop.spawn_outside, write.key
        if gone is not None and (gone.evicted or gone.uid in self._stopped):
            later(self._make_again(gone))
        elif kind == VIRTUAL_MACHINE_INSTANCES and write.after is None:
            later(self._stop(name))
        elif kind == MIGRATIONS and write.before is None and write.after is not None:
            later(self._migrate(name, write.after.value()["spec"]["vmiName"]))

    async def _make_again(self, gone: Pod) -> None:
        cluster = self._cluster
        await asyncio.sleep(cluster.chance.expovariate(1.5))
        if not self._tight:
            await self._allow(1)
        with contextlib.suppress(NotFound):
            await cluster.api.get(VIRTUAL_MACHINES, gone.vm, namespace="default")
            await cluster.create_pod(gone.vm, _wants(gone), 0)

    async def _stop(self, vm: str) -> None:
        """Stop a VM whose instance was deleted, and let it run again."""
        await self._run(vm)
        for pod in tuple(self._cluster.judge.pods.values()):
            if pod.vm == vm:
                self._stopped.add(pod.uid)
                await self._delete(pod)

    async def _run(self, vm: str) -> None:
        body = {"metadata": {"name": vm}, "spec": {}}
        made = await self._cluster.api.create(VIRTUAL_MACHINE_INSTANCES, body, namespace="default")
        self._instances[vm] = msgspec.json.decode(made)["metadata"]["uid"]

    async def _migrate(self, name: str, vm: str) -> None:
        """Start a VM's next pod on another node, then end the one it runs in; or fail to."""
        cluster = self._cluster
        pods = cluster.judge.pods
        source = next((p for p in pods.values() if p.vm == vm and p.node and p.alive), None)
        target = None
        if source is not None and cluster.chance.random() >= FAILS:
            self._made += 1
            nodes = tuple(each for each in cluster.hardware if each != source.node)
            name_of_next = f"{vm}-m{self._made}"
            made = await cluster.create_next(name_of_next, vm, _wants(source), 0, nodes)
            for _ in range(STARTED_WITHIN_LOOKS):
                await asyncio.sleep(LOOKED_AT_EVERY_SECONDS)
                target = pods.get(made)
                if target is None or target.over or target.phase == "Running":
                    break
        arrived = target is not None and target.alive and target.phase == "Running"
        await self._told(MIGRATIONS, name, _phase("Succeeded" if arrived else "Failed"))
        ended = source if arrived else target
        if ended is not None:
            await self._delete(ended)

    async def _delete(self, pod: Pod) -> None:
        with contextlib.suppress(ApiError):
            await self._cluster.api.delete(
                PODS, pod.name, namespace="default", uid=pod.uid, grace_seconds=0
            )

    async def _allow(self, pods: int) -> None:
        for name in GUARDED:
            status = {"status": {"observedGeneration": 1, "disruptionsAllowed": pods}}
            await self._told(POD_DISRUPTION_BUDGETS, name, status)

    async def _told(self, kind: Kind, name: str, status: Mapping[str, Any]) -> None:
        await self._cluster.api.patch(
            kind,
            name,
            status,
            patch_type=PatchType.MERGE,
            namespace="default",
            subresource="status",
        )


def _phase(phase: str) -> Mapping[str, Any]:
    return {"status": {"phase": phase}}


def _wants(pod: Pod) -> list[str]:
    return [each.removeprefix(VGPU) for each in pod.wants]
