"""The demo's story: VMs come, are placed or refused once and for all, and leave."""

from __future__ import annotations

import asyncio
import collections
import itertools
import math
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import msgspec

from extender.decision_log import DecisionLog
from extender.demo.arrivals import Arrival, Departures, arrivals
from extender.demo.audit import audit, instances
from extender.demo.outcome import GpuMap, Latency, Outcome, ProfileCount
from extender.demo.pods import launcher
from extender.demo.scheduler import Attempt, Scheduler
from extender.demo.slow import Slow, SlowStory, going_on
from extender.demo.world import NAMESPACE, World, requestable, world
from extender.policy import InForce
from extender.server import desk
from extender.simulation.mixes import mix
from extender.verbs.verdicts import Code
from nodeagent.api.catalog import Model

AUDITS = 50  # on the way: a promise broken early must not be forgotten by the end
WAKES_LOOKED_AT_SECONDS = 0.01


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the demo simulates; *load* is the share of all slices that would be asked for.

    The last *burst* VMs come at once, when the first of them would. While somebody watches, VMs
    live for *lifetime* seconds in the mean, and the page is at *page_port*, 0 for a free one.
    """

    model: Model
    nodes: int
    gpus: int
    vms: int
    mix: str
    load: float
    seed: int
    policy: InForce
    burst: int = 0
    lifetime: float = 90.0
    page_port: int = 0


class Running(msgspec.Struct, frozen=True):
    """A placed VM."""

    pod: str
    uid: str
    node: str


async def run(
    options: Options,
    *,
    progress: Callable[[int, int], None],
    linger: Callable[[str, str], Awaitable[None]] | None = None,
    decision_log: DecisionLog | None = None,
) -> Outcome:
    """Play the whole story; *progress* hears of VMs placed and refused.

    *linger*, given the URLs of the hooks and of the desk, may keep the cluster up before the VMs
    leave; as long as it does, the story goes on in slow time. A *decision_log* is kept.

    Raises:
        UnknownMix: before anything is started.
        OSError: the page's port cannot be had.
    """
    started = time.perf_counter()
    wanted = requestable(options.model)
    shares = mix(options.mix, options.model.geometry, frozenset(wanted))
    total = options.nodes * options.gpus * options.model.geometry.memory_slices
    coming = arrivals(
        options.vms,
        shares,
        options.model.geometry,
        total_slices=total,
        load=options.load,
        seed=options.seed,
    )
    async with AsyncExitStack() as stack:
        cluster, url = await stack.enter_async_context(
            world(
                options.model,
                nodes=options.nodes,
                gpus=options.gpus,
                policy=options.policy,
                decision_log=decision_log,
            )
        )
        scheduler = await stack.enter_async_context(Scheduler.of(url))
        story = _Story(cluster, scheduler, wanted, progress)
        every, double_promised = math.ceil(options.vms / AUDITS), 0
        for vm in itertools.islice(coming, options.vms - options.burst):
            await story.leave_until(vm.at)
            await story.arrive(vm)
            if vm.index % every == 0:
                now = audit(cluster.hardware, await cluster.pods())
                double_promised = max(double_promised, now.double_promised)
        together = list(coming)
        if together:
            await story.leave_until(together[0].at)
            await story.arrive_together(together)
        await cluster.admitted()
        judged = audit(cluster.hardware, await cluster.pods())
        drawn = _map(cluster)
        if linger is not None:
            looked_at = await stack.enter_async_context(
                desk(cluster.service, reviewer=None, port=options.page_port)
            )
            slow = Slow(
                mix=shares,
                geometry=options.model.geometry,
                total_slices=total,
                load=options.load,
                lifetime=options.lifetime,
                seed=options.seed,
            )
            watched = SlowStory(cluster, scheduler, wanted, slow, story.leave_later)
            async with going_on(watched):
                await linger(url, looked_at)
        await story.leave_until(float("inf"))
        await cluster.emptied()
        leaked = instances(cluster.hardware)
        decided = cluster.service.knowledge.in_force.policy.effective
    return Outcome(
        model=options.model.name,
        nodes=options.nodes,
        gpus_per_node=options.gpus,
        policy=decided.value,
        mix=options.mix,
        load=options.load,
        seed=options.seed,
        requested=options.vms,
        placed=story.placed,
        refused=story.refused,
        refusals=dict(sorted(story.refusals.items())),
        double_promised=max(double_promised, judged.double_promised),
        leaked_instances=leaked,
        lost_assignments=judged.lost_assignments,
        slices_used=sum(p.size for gpu in drawn for _, p in gpu.instances),
        slices_total=total,
        filter_ms=_latency(story.filter_ms),
        bind_ms=_latency(story.bind_ms),
        profiles={
            options.model.geometry.by_id[profile].name: ProfileCount(
                story.requested_of[profile], story.placed_of[profile]
            )
            for profile in sorted(shares, reverse=True)
        },
        seconds=round(time.perf_counter() - started, 3),
        map=drawn,
    )


class _Story:
    """The VMs so far, and what became of them."""

    def __init__(
        self,
        cluster: World,
        scheduler: Scheduler,
        resources: Mapping[int, str],
        progress: Callable[[int, int], None],
    ) -> None:
        self._cluster = cluster
        self._scheduler = scheduler
        self._resources = resources
        self._progress = progress
        self._departures = Departures()
        self._running: dict[int, Running] = {}
        self._last = 0.0
        self.placed = 0
        self.refused = 0
        self.refusals: collections.Counter[str] = collections.Counter()
        self.requested_of: collections.Counter[int] = collections.Counter()
        self.placed_of: collections.Counter[int] = collections.Counter()
        self.filter_ms: list[float] = []
        self.bind_ms: list[float] = []

    async def arrive(self, vm: Arrival) -> None:
        """Try once to place a VM; a refusal is final."""
        await self._attempt(vm, await self._created(vm))

    async def arrive_together(self, vms: Sequence[Arrival]) -> None:
        """Place VMs that come at once; a refusal is final unless it says to wait for the others."""
        service = self._cluster.service
        pending = service.knowledge.pending
        pending.wakes(True)  # this scheduler hears of it without a patch
        waiting = [(vm, await self._created(vm)) for vm in vms]
        wakes = -1
        while waiting:
            if service.wakes != wakes:
                wakes = service.wakes
                waiting = [each for each in waiting if not await self._attempt(*each, patient=True)]
            await asyncio.sleep(WAKES_LOOKED_AT_SECONDS)
        pending.wakes(False)

    async def _created(self, vm: Arrival) -> dict[str, Any]:
        self._last = vm.at
        self.requested_of[vm.profile_id] += 1
        return await self._cluster.create(
            launcher(f"vm-{vm.index}", NAMESPACE, self._resources[vm.profile_id])
        )

    async def _attempt(self, vm: Arrival, pod: dict[str, Any], *, patient: bool = False) -> bool:
        """Give a VM one scheduling cycle; return whether that was its last."""
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        attempt = await self._scheduler.schedule(pod, list(self._cluster.hardware))
        self.filter_ms.append(attempt.filter_ms)
        if patient and not attempt.node and self._to_come_again(uid):
            return False
        if attempt.node:
            self.bind_ms.append(attempt.bind_ms)
            self.placed += 1
            self.placed_of[vm.profile_id] += 1
            self._running[vm.index] = Running(name, uid, attempt.node)
            self._departures.add(vm)
        else:
            self.refused += 1
            self.refusals[self._code(uid, attempt)] += 1
            await self._cluster.delete(name)
        self._progress(self.placed, self.refused)
        return True

    def _to_come_again(self, uid: str) -> bool:
        """Tell whether a VM waits for the plan of its burst, or yields to those in it."""
        knowledge = self._cluster.service.knowledge
        refused = knowledge.refused.get(uid)
        waits = refused is not None and Code.PLANNING in refused.codes
        return waits or knowledge.pending.yields(uid)

    async def leave_later(self, after: float) -> None:
        """Let the VMs leave whose time is over so long after the last arrival."""
        await self.leave_until(self._last + after)

    async def leave_until(self, moment: float) -> None:
        """Let the VMs whose time is over leave, and wait until their slices are free."""
        leaving = [self._running.pop(index) for index in self._departures.until(moment)]
        for vm in leaving:
            await self._cluster.delete(vm.pod)
        for vm in leaving:
            await self._cluster.vacated(vm.node, vm.uid)

    def _code(self, uid: str, attempt: Attempt) -> str:
        """Return the one code a refusal counts under: lack of room, if any node gave that."""
        if attempt.error:
            return "error"
        refused = self._cluster.service.knowledge.refused.get(uid)
        codes = sorted(refused.codes) if refused else []
        return (Code.NO_ROOM if Code.NO_ROOM in codes else codes[0]).value if codes else "unknown"


def _map(cluster: World) -> tuple[GpuMap, ...]:
    return tuple(
        GpuMap(
            node,
            gpu.uuid,
            tuple(
                sorted(
                    ((i.profile_id, i.placement) for i in gpu.instances.values()),
                    key=lambda each: each[1],
                )
            ),
        )
        for node, hardware in cluster.hardware.items()
        for gpu in hardware.gpus
    )


def _latency(samples: list[float]) -> Latency:
    if len(samples) < 2:
        return Latency(*[round(sum(samples), 3)] * 2)
    cuts = statistics.quantiles(samples, n=100, method="inclusive")
    return Latency(round(cuts[49], 3), round(cuts[98], 3))
