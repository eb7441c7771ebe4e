"""The steady load: VMs that come, restart and go, and a second caller of the hooks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp
import msgspec

from nodeagent.apiserver.protocol import PODS, VIRTUAL_MACHINES, ApiError, Kind
from tests.e2e.chaos.checker import Pod
from tests.e2e.chaos.demand import Demand, Vm
from tests.e2e.chaos.site import Site
from tests.e2e.room import PROFILES
from tests.e2e.stack import MODEL

OFTEN_SECONDS = 0.05
API_SECONDS = 5.0  # for each request, and for each call of a hook
AFTER_AN_ERROR_SECONDS = 0.2
AFTER_A_MEMBER_SECONDS = 0.5
AT_ONCE = 16  # requests to the API server


class Pace(msgspec.Struct, frozen=True):
    """How much load there is.

    ``vms_per_second`` come while fewer slices than ``fullness`` of all are asked for; one that is
    bound stays for ``stay_seconds`` on average, one in ``hasty`` leaves before anything becomes of
    it, and one that waits goes away in the end; a gang goes together. Of all that come, the shares
    ``gangs`` and ``several`` are gangs and VMs with several vGPUs. Of the VMs by themselves the
    share ``kept`` has a VirtualMachine: one of these that ends may ``restart``, after
    ``restart_seconds`` on average, or never though it was to. ``callers`` call the hooks together
    as often as ``hooks_per_second``.
    """

    vms_per_second: float = 8.0
    fullness: float = 0.9
    stay_seconds: float = 6.0
    hasty: int = 20
    gangs: float = 0.15
    several: float = 0.15
    kept: float = 0.5
    restart: float = 0.6
    never: float = 0.1
    restart_seconds: float = 1.5
    callers: int = 8
    hooks_per_second: float = 100.0


class Load:
    """The load on *site*; *pods* are those there are, by the key of etcd, kept by an observer."""

    def __init__(
        self, site: Site, pods: Mapping[str, Pod], pace: Pace, chance: random.Random
    ) -> None:
        self.answered = 0
        """Calls of the hooks that had an answer, and not an Error."""
        self._site = site
        self._pods = pods
        self._pace = pace
        self._chance = chance
        self._flowing = asyncio.Event()
        self._leaves: dict[str, float] = {}
        self._demand = Demand(chance, several=pace.several, gangs=pace.gangs, kept=pace.kept)
        self._kept: dict[str, Vm] = {}
        self._disbanded: set[str] = set()
        self._at_once = asyncio.Semaphore(AT_ONCE)

    def resume(self) -> None:
        """Let VMs come and go, and call the hooks."""
        self._leaves.clear()
        self._flowing.set()

    def pause(self) -> None:
        """Do nothing more than what is begun."""
        self._flowing.clear()

    async def run(self) -> None:
        """Be the load until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._arrivals(tasks), name="arrivals")
            tasks.create_task(self._departures(tasks), name="departures")
            for _ in range(self._pace.callers):
                tasks.create_task(self._calls(), name="calls")

    async def _arrivals(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            await self._flowing.wait()
            await asyncio.sleep(self._chance.expovariate(self._pace.vms_per_second))
            if (
                self._wanted() < self._pace.fullness * self._site.slices
                and not self._at_once.locked()
            ):
                for vm in self._demand.arrival():
                    tasks.create_task(self._arrive(vm), name="arrive")

    def _wanted(self) -> int:
        by_id = MODEL.geometry.by_id
        return sum(by_id[PROFILES[name]].size for pod in self._pods.values() for name in pod.wants)

    async def _arrive(self, vm: Vm) -> None:
        if vm.kept:
            if not await self._created(VIRTUAL_MACHINES, vm.virtual_machine()):
                return
            self._kept[vm.name] = vm
        await self._created(PODS, vm.pod())

    async def _departures(self, tasks: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._flowing.wait()
            await asyncio.sleep(OFTEN_SECONDS)
            now = loop.time()
            for pod in list(self._pods.values()):
                if pod.deleting:
                    continue
                key = f"{pod.uid}/{bool(pod.node)}"
                if key not in self._leaves:
                    self._leaves[key] = now + self._stay(pod)
                elif pod.gang in self._disbanded:
                    self._leaves[key] = min(self._leaves[key], now + AFTER_A_MEMBER_SECONDS)
                if self._leaves[key] <= now and not self._at_once.locked():
                    self._leaves[key] = now + API_SECONDS
                    if pod.gang:
                        self._disbanded.add(pod.gang)
                    tasks.create_task(self._leave(pod), name="leave")

    def _stay(self, pod: Pod) -> float:
        if not pod.node and not self._chance.randrange(self._pace.hasty):
            return self._chance.uniform(0.0, 0.5)
        mean = self._pace.stay_seconds if pod.node else 10 * self._pace.stay_seconds
        return self._chance.expovariate(1 / mean) + OFTEN_SECONDS

    async def _leave(self, pod: Pod) -> None:
        """Let a pod go, and perhaps come again: its VM is switched off, restarts, or crashes."""
        vm = self._kept.get(pod.vm)
        restarts = vm is not None and bool(pod.node) and self._chance.random() < self._pace.restart
        if vm is not None and not restarts:
            await self._switched_off(vm)
        if not await self._deleted(PODS, pod.name, uid=pod.uid):
            return
        if vm is not None and restarts:
            await asyncio.sleep(self._chance.expovariate(1 / self._pace.restart_seconds))
            if self._chance.random() < self._pace.never:
                await self._switched_off(vm)
            else:
                await self._created(PODS, vm.pod())

    async def _switched_off(self, vm: Vm) -> None:
        if await self._deleted(VIRTUAL_MACHINES, vm.name):
            self._kept.pop(vm.name, None)

    async def _created(self, kind: Kind, body: Mapping[str, Any]) -> bool:
        create = self._site.api.create
        return await self._asked(
            lambda: create(kind, body, namespace="default", timeout=API_SECONDS)
        )

    async def _deleted(self, kind: Kind, name: str, *, uid: str = "") -> bool:
        delete = self._site.api.delete
        return await self._asked(
            lambda: delete(kind, name, namespace="default", uid=uid, timeout=API_SECONDS)
        )

    async def _asked(self, request: Callable[[], Awaitable[object]]) -> bool:
        """Make a request; whatever becomes of one that fails is seen in the history."""
        async with self._at_once:
            try:
                await request()
            except ApiError:
                return False
        return True

    async def _calls(self) -> None:
        """Ask filter and prioritize for one pod after the other, as any scheduler may."""
        pause = self._pace.callers / self._pace.hooks_per_second
        timeout = aiohttp.ClientTimeout(total=API_SECONDS)
        loop = asyncio.get_running_loop()
        due = 0.0
        async with aiohttp.ClientSession(timeout=timeout) as http:
            while True:
                await self._flowing.wait()
                due = max(due + pause, loop.time() - pause)
                await asyncio.sleep(max(0.0, due - loop.time()))
                try:
                    asked = await self._filter(http)
                    due += pause * (asked - 1)
                except (aiohttp.ClientError, TimeoutError, _Refused):
                    await asyncio.sleep(AFTER_AN_ERROR_SECONDS)

    async def _filter(self, http: aiohttp.ClientSession) -> int:
        """Ask filter, and prioritize if nodes are left for it; return how many calls that made."""
        pods = list(self._pods.values())
        waiting = [pod for pod in pods if not pod.node]
        if not pods:
            return 0
        pod = self._chance.choice(waiting or pods)
        args = {"Pod": pod.raw, "Nodes": None, "NodeNames": self._site.nodes}
        answer = await self._ask(http, "filter", args)
        if answer["Error"]:
            raise _Refused(answer["Error"])
        passed = answer["NodeNames"] or []
        if len(passed) < 2:
            return 1
        await self._ask(http, "prioritize", {**args, "NodeNames": passed})
        return 2

    async def _ask(self, http: aiohttp.ClientSession, verb: str, args: Mapping[str, Any]) -> Any:
        async with http.post(
            f"{self._site.url}/{verb}",
            data=msgspec.json.encode(args),
            headers={"Content-Type": "application/json"},
            ssl=self._site.trust,
        ) as response:
            response.raise_for_status()
            answer = msgspec.json.decode(await response.read())
        if not (isinstance(answer, dict) and answer["Error"]):
            self.answered += 1
        return answer


class _Refused(Exception):
    """The hook answered that it cannot answer now."""
