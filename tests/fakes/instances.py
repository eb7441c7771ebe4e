"""What KubeVirt does for VMs: it migrates them, and has those that are stopped start again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec

from nodeagent.apiserver.protocol import (
    MIGRATIONS,
    PODS,
    VIRTUAL_MACHINE_INSTANCES,
    NotFound,
    PatchType,
)
from tests.fakes.machines import VMI
from tests.fakes.world import World


async def instance(world: World, name: str, *, migratable: bool) -> None:
    """Create the VirtualMachineInstance that a VM runs as; KubeVirt says whether it can migrate."""
    for kind in (VIRTUAL_MACHINE_INSTANCES, MIGRATIONS):
        world.api.register(kind)
    await world.api.create(
        VIRTUAL_MACHINE_INSTANCES, {"metadata": {"name": name}}, namespace="default"
    )
    condition = {"type": "LiveMigratable", "status": str(migratable)}
    await world.api.patch(
        VIRTUAL_MACHINE_INSTANCES,
        name,
        {"status": {"conditions": [condition]}},
        patch_type=PatchType.MERGE,
        namespace="default",
        subresource="status",
    )


async def migrations(world: World) -> list[dict[str, dict[str, str]]]:
    return [msgspec.json.decode(raw) for raw in (await world.api.list(MIGRATIONS)).items]


async def runs_as(world: World, pod: str, instance: str) -> None:
    """Let a pod belong to the very VirtualMachineInstance of that name."""
    raw = await world.api.get(VIRTUAL_MACHINE_INSTANCES, instance, namespace="default")
    uid = msgspec.json.decode(raw)["metadata"]["uid"]
    owner = {"apiVersion": "kubevirt.io/v1", "kind": VMI, "name": instance, "uid": uid}
    await world.api.patch(
        PODS,
        pod,
        {"metadata": {"ownerReferences": [{**owner, "controller": True}]}},
        patch_type=PatchType.MERGE,
        namespace="default",
    )


class KubeVirt:
    """Looks after one VM; its launchers are made by the test's machines, but for a migration's."""

    def __init__(self, world: World, name: str, wanted: str) -> None:
        self._world = world
        self._name = name
        self._wanted = wanted

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Do what there is to do until the block ends."""

        async def run() -> None:
            while True:
                for migration in await migrations(self._world):
                    await self._migrate(migration["metadata"]["name"])
                await self._start_again()
                await asyncio.sleep(0.02)

        async with asyncio.TaskGroup() as tasks:
            work = tasks.create_task(run())
            try:
                yield
            finally:
                work.cancel()

    async def _migrate(self, migration: str) -> None:
        """Make the target's launcher, and end the source's once that is bound."""
        world, target, source = self._world, f"{self._name}-target", f"{self._name}-1"
        if await world.pod(source) is None:
            return
        if await world.pod(target) is None:
            await world.add_pod(target, self._wanted, owner=(VMI, self._name))
        if not await world.bound(target):
            return
        await world.api.patch(
            MIGRATIONS,
            migration,
            {"status": {"phase": "Succeeded"}},
            patch_type=PatchType.MERGE,
            namespace="default",
            subresource="status",
        )
        await world.delete_pod({"metadata": {"name": source}})

    async def _start_again(self) -> None:
        """End the launcher of a VM that was stopped, and make the VM's next instance."""
        world = self._world
        if (await world.api.list(VIRTUAL_MACHINE_INSTANCES)).items:
            return
        with contextlib.suppress(NotFound):
            await world.delete_pod({"metadata": {"name": f"{self._name}-1"}})
        await instance(world, self._name, migratable=False)
