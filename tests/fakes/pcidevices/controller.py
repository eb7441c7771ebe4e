"""The pcidevices controller of one node: what it does when, and what it does again after errors.

A test calls :meth:`Controller.work` whenever time has passed or something may have changed; where
real time passes, :meth:`Controller.run` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Final

from nodeagent.apiserver.protocol import ApiError, ApiServer, Kind
from nodeagent.apiserver.reflector import reflect
from tests.fakes.pcidevices.allocations import Allocations, Environment
from tests.fakes.pcidevices.gpus import Gpus
from tests.fakes.pcidevices.host import CommandFailed, Host
from tests.fakes.pcidevices.names import (
    MIG_CONFIGURATIONS,
    NODE_LABEL,
    SRIOV_GPUS,
    VGPUS,
    VMIS,
    Version,
)
from tests.fakes.pcidevices.objects import Mig, SriovGpu, Vgpu
from tests.fakes.pcidevices.store import Step, Store
from tests.fakes.pcidevices.vgpus import Plugins, Vgpus

SCAN_SECONDS: Final = 30.0
MIG_SECONDS: Final = 300.0
FIRST_RETRY_SECONDS: Final = 0.005
LONGEST_RETRY_SECONDS: Final = 1000.0
"""Wrangler's queue retries with client-go's default limits, by inference from its defaults."""

_MOST_ROUNDS = 1000

Key = tuple[Kind, str]


class Controller:
    """Harvester's controller on *host*, a client of *api*; time is what *clock* says.

    *step* hears of each of its effects, before and after; when it raises, the controller has ended
    there, and a new one takes over with what objects and the host tell. *environment* tells what
    the kubelet has put into a launcher's. One that does not heed touches looks at an object anew
    only if its spec or status has changed: it is slower than the one whose source was read.
    """

    def __init__(
        self,
        api: ApiServer,
        host: Host,
        plugins: Plugins,
        clock: Callable[[], float],
        *,
        seed: int = 0,
        step: Step = lambda name: None,
        scan_seconds: float = SCAN_SECONDS,
        mig_seconds: float = MIG_SECONDS,
        environment: Environment = lambda uid: {},
        heeds_touches: bool = True,
    ) -> None:
        self._api = api
        self._host = host
        self._clock = clock
        self._scan_seconds = scan_seconds
        self._mig_seconds = mig_seconds
        self._heeds_touches = heeds_touches
        self._store = Store(api, step)
        self._gpus = Gpus(host, self._store)
        self._vgpus = Vgpus(host, self._store, plugins, random.Random(seed))
        self._allocations = Allocations(host.node, self._store, host.version, environment)
        self._handled: dict[Key, str] = {}
        self._due: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._next_scan = clock()

    @property
    def next_due(self) -> float:
        """When there is something to do though nothing changes, by the clock."""
        return min([self._next_scan, *self._due.values()])

    async def work(self) -> None:
        """Do all that is due, and all that follows from it."""
        if self._clock() >= self._next_scan:
            self._next_scan = self._clock() + self._scan_seconds
            with contextlib.suppress(ApiError, CommandFailed):  # the next scan does it again
                await self._gpus.scan()
        for _ in range(_MOST_ROUNDS):
            if not await self._round():
                with contextlib.suppress(ApiError):  # the next change does it again
                    await self._allocations.work()
                return
        raise RuntimeError(f"the controller of {self._host.node} never comes to rest")

    async def run(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Work until cancelled, whenever something changes or is due."""
        changed = asyncio.Event()

        async def follow(kind: Kind, label_selector: str = "") -> None:
            changes = reflect(self._api, kind, label_selector=label_selector)
            async with contextlib.aclosing(changes):
                async for _ in changes:
                    changed.set()

        async def remind() -> None:
            while True:
                await sleep(max(0.01, self.next_due - self._clock()))
                changed.set()

        mine = f"{NODE_LABEL}={self._host.node}"
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(follow(SRIOV_GPUS, mine), name="follow-gpus")
            tasks.create_task(follow(VGPUS, mine), name="follow-vgpus")
            tasks.create_task(follow(MIG_CONFIGURATIONS), name="follow-mig")
            tasks.create_task(follow(VMIS), name="follow-vmis")
            reminder = tasks.create_task(remind(), name="remind")
            while True:
                await self.work()
                await changed.wait()
                changed.clear()
                reminder.cancel()  # what is due next may have changed
                reminder = tasks.create_task(remind(), name="remind")

    async def _round(self) -> bool:
        """Handle what has changed since it was handled, and what is due; tell whether any was."""
        mine = f"{NODE_LABEL}={self._host.node}"
        gpus = await self._store.listed(SRIOV_GPUS, SriovGpu, label_selector=mine)
        migs = await self._store.listed(MIG_CONFIGURATIONS, Mig)
        vgpus = await self._store.listed(VGPUS, Vgpu, label_selector=mine)
        handled = False
        for gpu in gpus:
            if gpu.spec.node_name == self._host.node:
                handled |= await self._handle(SRIOV_GPUS, gpu, self._gpus.on_gpu)
        for mig in migs:
            if mig.spec.node_name == self._host.node:
                handled |= await self._handle(MIG_CONFIGURATIONS, mig, self._gpus.on_mig)
        for vgpu in vgpus:
            if vgpu.spec.node_name == self._host.node:
                handled |= await self._handle(VGPUS, vgpu, self._on_vgpu)
        there = {(VGPUS, each.metadata.name) for each in vgpus}
        there |= {(SRIOV_GPUS, each.metadata.name) for each in gpus}
        there |= {(MIG_CONFIGURATIONS, each.metadata.name) for each in migs}
        for key in [key for key in self._due if key not in there]:
            del self._due[key]
        return handled

    async def _on_vgpu(self, vgpu: Vgpu) -> None:
        if self._host.version is Version.V1_8:
            await self._vgpus.ensure_pci_device(vgpu)
        if not await self._vgpus.on_vgpu(vgpu):
            return
        # Its siblings' available types have changed with it; a MIG change tells nobody.
        mine = f"{NODE_LABEL}={self._host.node}"
        for each in await self._store.listed(VGPUS, Vgpu, label_selector=mine):
            same_gpu = each.spec.parent_address == vgpu.spec.parent_address
            if same_gpu and not each.spec.enabled and each.metadata.name != vgpu.metadata.name:
                self._due[VGPUS, each.metadata.name] = self._clock()

    async def _handle(
        self, kind: Kind, found: SriovGpu | Mig | Vgpu, handler: Callable[..., Awaitable[None]]
    ) -> bool:
        key = (kind, found.metadata.name)
        version = found.metadata.resource_version
        if not self._heeds_touches:
            version = f"{found.metadata.generation} {found.status}"
        now = self._clock()
        if self._handled.get(key) == version and self._due.get(key, now + 1) > now:
            return False
        self._handled[key] = version
        self._due.pop(key, None)
        try:
            await handler(found)
        except (ApiError, CommandFailed):
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            pause = min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** (failures - 1))
            self._due[key] = self._clock() + pause
        else:
            self._failures.pop(key, None)
            if kind == MIG_CONFIGURATIONS:
                self._due[key] = self._clock() + self._mig_seconds
        return True
