"""The demo's story in slow time, to be watched: VMs of several teams come, wait, run, and leave.

Who finds no room waits for it, as under a real scheduler: it is tried again when it is woken, and
gives up when it would have left.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import msgspec

from extender.demo.arrivals import Arrival, arrivals
from extender.demo.pods import launcher
from extender.demo.scheduler import Scheduler
from extender.demo.world import TEAMS, World
from nodeagent.api.geometry import Geometry

TICK_SECONDS = 0.05
RETRY_SECONDS = 2.0  # what is refused without being woken is tried again: kube-scheduler does too
ENDLESS = 10**9  # VMs: years of them


class Slow(msgspec.Struct, frozen=True, kw_only=True):
    """How VMs come: *load* is the share of *total_slices* asked for, times are in seconds."""

    mix: Mapping[int, float]
    geometry: Geometry
    total_slices: int
    load: float
    lifetime: float
    seed: int


class _Vm(msgspec.Struct):
    """A VM that is there: ``node`` is "" while it waits."""

    arrival: Arrival
    pod: dict[str, Any]
    node: str = ""
    tried: float = 0.0

    @property
    def name(self) -> str:
        return str(self.pod["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.pod["metadata"]["namespace"])


class SlowStory:
    """Goes on until cancelled; what it leaves behind is cleared by :meth:`leave`.

    *others_leave* lets those leave that were there before, by the time given in mean lifetimes.
    """

    def __init__(
        self,
        cluster: World,
        scheduler: Scheduler,
        resources: Mapping[int, str],
        slow: Slow,
        others_leave: Callable[[float], Awaitable[None]],
    ) -> None:
        self._others_leave = others_leave
        self._cluster = cluster
        self._scheduler = scheduler
        self._resources = resources
        self._slow = slow
        self._chance = random.Random(slow.seed)
        self._there: list[_Vm] = []

    async def go_on(self) -> None:
        """Let VMs come and go; one mean lifetime takes ``lifetime`` seconds."""
        slow, loop = self._slow, asyncio.get_running_loop()
        coming = arrivals(
            ENDLESS,
            slow.mix,
            slow.geometry,
            total_slices=slow.total_slices,
            load=slow.load,
            seed=slow.seed,
        )
        began, due, wakes = loop.time(), next(coming), -1
        while True:
            now = (loop.time() - began) / slow.lifetime
            await self._others_leave(now)
            for vm in [each for each in self._there if each.arrival.until <= now]:
                await self._end(vm)
            woken = self._cluster.service.wakes != wakes
            wakes = self._cluster.service.wakes
            for vm in [each for each in self._there if not each.node]:
                if woken or loop.time() - vm.tried >= RETRY_SECONDS:
                    await self._try(vm)
            while due.at <= now:
                await self._come(due)
                due = next(coming)
            await asyncio.sleep(TICK_SECONDS)

    async def leave(self) -> None:
        """Let every VM leave, and wait until its slices are free."""
        gone = [(each.node, each.pod["metadata"]["uid"]) for each in self._there if each.node]
        for vm in tuple(self._there):
            await self._end(vm)
        for node, uid in gone:
            await self._cluster.vacated(node, uid)

    async def _come(self, arrival: Arrival) -> None:
        team = self._chance.choice(TEAMS)
        name = f"{team}-{arrival.index}"
        pod = await self._cluster.create(launcher(name, team, self._resources[arrival.profile_id]))
        vm = _Vm(arrival, pod)
        self._there.append(vm)
        await self._try(vm)

    async def _try(self, vm: _Vm) -> None:
        vm.tried = asyncio.get_running_loop().time()
        attempt = await self._scheduler.schedule(vm.pod, list(self._cluster.hardware))
        vm.node = attempt.node

    async def _end(self, vm: _Vm) -> None:
        self._there.remove(vm)
        await self._cluster.delete(vm.name, vm.namespace)


@contextlib.asynccontextmanager
async def going_on(story: SlowStory) -> AsyncIterator[None]:
    """Let a story go on while the block lasts; then its VMs leave."""
    task = asyncio.create_task(story.go_on(), name="slow-story")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await story.leave()
