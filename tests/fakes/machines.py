"""VMs that are always on: whose pod is gone has another, and kube-scheduler finds it a place."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec

from extender.service import Service
from nodeagent.apiserver.protocol import PODS, VIRTUAL_MACHINES, Conflict
from tests.fakes.scheduling import Scheduler
from tests.fakes.world import World
from tests.waiting import until

VMI = "VirtualMachineInstance"


class Machines:
    """VMs by name, each with what it wants; pods are called after them, with a number."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._wanted: dict[str, tuple[str, dict[str, Any]]] = {}
        self._made: dict[str, int] = {}

    async def add(self, name: str, wanted: str, **fields: Any) -> None:
        """Create a VM that is to run."""
        self._world.api.register(VIRTUAL_MACHINES)
        body = {"metadata": {"name": name}, "spec": {"runStrategy": "Always"}}
        await self._world.api.create(VIRTUAL_MACHINES, body, namespace="default")
        self._wanted[name] = (wanted, fields)

    async def place(
        self, extender: Service, name: str, wanted: str, node: str, **fields: Any
    ) -> None:
        """Create a VM, and have it run on a node."""
        await self.add(name, wanted, **fields)
        await self._make_missing()
        pod = (await self.pods())[name]
        await Scheduler(extender, [node]).until_bound(self._world, [pod])
        uid, known = pod["metadata"]["uid"], extender.knowledge.pods
        await until(lambda: uid in known and known[uid].node)

    async def pods(self) -> Mapping[str, dict[str, Any]]:
        """Return the VMs' pods."""
        listed = (await self._world.api.list(PODS)).items
        pods = [dict(msgspec.json.decode(raw)) for raw in listed]
        owners = (pod["metadata"].get("ownerReferences") or [{}] for pod in pods)
        return {
            owner[0]["name"]: pod
            for owner, pod in zip(owners, pods, strict=True)
            if owner[0].get("kind") == VMI
        }

    async def on(self, name: str) -> tuple[str, str, int]:
        """Return where a VM runs: its node, GPU and first slice; "" and -1 where it does not."""
        pod = (await self.pods()).get(name)
        node = "" if pod is None else pod["spec"].get("nodeName", "")
        if pod is None or not node:
            return "", "", -1
        (at,) = await self._world.decision(pod["metadata"]["name"])
        return node, at.gpu, at.start

    async def _make_missing(self) -> None:
        there = await self.pods()
        for name in self._wanted.keys() - there.keys():
            wanted, fields = self._wanted[name]
            self._made[name] = self._made.get(name, 0) + 1
            with contextlib.suppress(Conflict):
                await self._world.add_pod(
                    f"{name}-{self._made[name]}", wanted, owner=(VMI, name), **fields
                )

    @contextlib.asynccontextmanager
    async def running(self, extender: Service, nodes: Sequence[str]) -> AsyncIterator[None]:
        """Make pods that are missing, and bind those that wait, until the block ends."""

        async def run() -> None:
            scheduler = Scheduler(extender, nodes)
            while True:
                await self._make_missing()
                pods = (await self.pods()).values()
                waiting = [pod for pod in pods if not pod["spec"].get("nodeName")]
                await scheduler.once(waiting)
                await asyncio.sleep(0.02)

        async with asyncio.TaskGroup() as tasks:
            work = tasks.create_task(run())
            try:
                yield
            finally:
                work.cancel()
