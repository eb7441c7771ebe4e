"""Ending the agent at any of its steps: before and after each effect that outlives it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any

from nodeagent.agent import Agent
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Mode
from nodeagent.apiserver.protocol import LEASES, ApiServer, Body, Kind, Page, PatchType, WatchEvent
from nodeagent.driver import Host, Purpose
from nodeagent.harvester import (
    UNREAD,
    ClusterObjects,
    HarvesterDriver,
    HarvesterHandout,
    HarvesterPlugin,
    Making,
)
from nodeagent.journal import Kept, Made
from nodeagent.journal_file import FileJournal
from nodeagent.node_pods import gpu_pods
from nodeagent.nvml import NvmlDriver
from nodeagent.nvml.thread import NvmlThread
from nodeagent.purview import Purview
from tests.unit.harvester.station import EAGER, NAME, SOON, Station

EVERY_GPU = Purview()


class Killed(Exception):
    """The agent's process has ended."""


class Fuse:
    """Ends the agent at the step of that number, from 0; ``steps`` are those it has taken.

    Where it is *named*, only steps of that name count.
    """

    def __init__(self, length: int | None = None, *, named: str = "") -> None:
        self.steps: list[str] = []
        self._length = length
        self._named = named

    @property
    def burnt(self) -> bool:
        counted = [name for name in self.steps if self._named in ("", name)]
        return self._length is not None and len(counted) > self._length

    def step(self, name: str) -> None:
        """Take note of a step, or end there."""
        if self.burnt:
            raise Killed(name)  # nothing of the process that has ended goes on
        self.steps.append(name)
        if self.burnt:
            raise Killed(name)

    @contextlib.contextmanager
    def around(self, name: str) -> Any:
        self.step(f"before {name}")
        yield
        self.step(f"after {name}")


class FusedApi:
    """An API server as the agent reaches it. Its Lease is not worth dying for."""

    def __init__(self, api: ApiServer, fuse: Fuse) -> None:
        self._api = api
        self._fuse = fuse

    async def get(self, kind: Kind, name: str, **options: Any) -> bytes:
        return await self._api.get(kind, name, **options)

    async def list(self, kind: Kind, **options: Any) -> Page:
        return await self._api.list(kind, **options)

    def watch(self, kind: Kind, **options: Any) -> AsyncGenerator[WatchEvent, None]:
        return self._api.watch(kind, **options)

    async def delete(self, kind: Kind, name: str, **options: Any) -> None:
        await self._api.delete(kind, name, **options)

    async def create(self, kind: Kind, body: Body, **options: Any) -> bytes:
        if kind == LEASES:
            return await self._api.create(kind, body, **options)
        with self._fuse.around(f"create {kind.plural}"):
            return await self._api.create(kind, body, **options)

    async def patch(
        self,
        kind: Kind,
        name: str,
        patch: Body | Sequence[Body],
        *,
        patch_type: PatchType,
        **options: Any,
    ) -> bytes:
        if kind == LEASES:
            return await self._api.patch(kind, name, patch, patch_type=patch_type, **options)
        with self._fuse.around(f"patch {kind.plural}"):
            return await self._api.patch(kind, name, patch, patch_type=patch_type, **options)


class FusedDriver:
    """NVML as the agent reaches it."""

    def __init__(self, driver: NvmlDriver, fuse: Fuse) -> None:
        self._driver = driver
        self._fuse = fuse

    async def shut(self, reason: str) -> None:
        await self._driver.shut(reason)

    def reopen(self) -> None:
        self._driver.reopen()

    async def discover(self) -> Host:
        return await self._driver.discover()

    async def create(
        self, gpu: str, profile_id: int, placement: Placement, purpose: Purpose | None = None
    ) -> int:
        with self._fuse.around("create GPU instance"):
            return await self._driver.create(gpu, profile_id, placement, purpose)

    async def destroy(self, gpu: str, gi_id: int) -> None:
        with self._fuse.around("destroy GPU instance"):
            await self._driver.destroy(gpu, gi_id)

    async def watch(self, changed: Callable[[], None]) -> None:
        await self._driver.watch(changed)


class FusedJournal(FileJournal):
    """The journal as the agent writes it."""

    def __init__(self, *arguments: Any, fuse: Fuse) -> None:
        super().__init__(*arguments)
        self._fuse = fuse

    async def save(self, made: tuple[Made, ...]) -> None:
        with self._fuse.around("save journal"):
            await super().save(made)

    async def keep(self, kept: Kept) -> None:
        with self._fuse.around("keep inventory"):
            await super().keep(kept)


class Lives:
    """The lives of the agent of a *station*: after the one that the fuse ends, another."""

    def __init__(self, station: Station, fuse: Fuse, purview: Purview = EVERY_GPU) -> None:
        self._station = station
        self._fuse = fuse
        self._purview = purview
        self.count = 0

    @contextlib.asynccontextmanager
    async def lived(self) -> AsyncIterator[None]:
        """Have an agent, until the block ends."""
        self._begin()
        try:
            yield
        finally:
            await self._end()

    @contextlib.asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """Have none until the block ends, as while the node reboots, and then one again."""
        await self._end()
        try:
            yield
        finally:
            self._begin()

    def _begin(self) -> None:
        self._task = asyncio.create_task(self._live_on(), name="lives")

    async def _end(self) -> None:
        # An agent that ends at this very moment by itself keeps the first from being heard.
        while not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=1.0)
        if not self._task.cancelled() and (error := self._task.exception()):
            raise error

    async def _live_on(self) -> None:
        if not self._fuse.burnt:
            try:
                await self._live(self._fuse)
            except* Killed:
                pass
        await self._live(Fuse())

    async def _live(self, fuse: Fuse) -> None:
        self.count += 1
        station, api = self._station, FusedApi(self._station.cluster.client("agent"), fuse)
        parts = station.parts()
        async with NvmlDriver(
            parts.location, Mode.HARVESTER, root=parts.host_root, shut=UNREAD
        ) as nvml:
            worker = NvmlThread(within=20.0)
            objects = ClusterObjects(api, NAME, timeout=8.0)
            driver = HarvesterDriver(
                FusedDriver(nvml, fuse), objects, parts.sysfs(parts.host_root), worker
            )
            plugin = HarvesterPlugin(
                pods=lambda: gpu_pods(api, NAME, timeout=8.0),
                places=station.places,
                timing=SOON,
            )
            journal = station.directory / "agent" / NAME / "journal.json"
            agent = Agent(
                NAME,
                api=api,
                driver=driver,
                kubelet=plugin,
                handout=HarvesterHandout(
                    plugin, Making(driver, objects, functions=True), within=8.0
                ),
                journal=FusedJournal(journal, fuse=fuse),
                epoch=f"life-{self.count}",
                settings=EAGER,
                purview=self._purview,
            )
            try:
                await agent.run()
            finally:
                await worker.close()
