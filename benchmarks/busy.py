"""A served extender in a busy cluster: pods that come and are bound, watches, and all it does."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from benchmarks.agents import AgentsCluster, Evictions, Unread
from benchmarks.fleet import RESOURCE, KnownFleet, ready
from benchmarks.http import Connection, Times, connected
from benchmarks.launchers import pod, question
from extender import wire
from extender.cli.garbage import collected_between_answers
from extender.explain import Explanation
from extender.planning.joint import JointPlan
from extender.server import serving
from extender.service.explaining import Explainer
from extender.service.planner import in_thread
from extender.service.telling import Teller
from extender.service.unadmitted import UnadmittedTeller

RENEWED_SECONDS = 10.0  # as agents renew their Leases
TYPES = tuple(RESOURCE.format(vgpu) for vgpu in ("1-10C", "1-20C", "2-20C"))
NOWHERE = "nvidia.com/GRID_A100-1-5C"
REFUSED = 20  # pods that fit nowhere
PREEMPTORS = 4
PREEMPTORS_WANT, PRIORITY = RESOURCE.format("7-80C"), 1000
EVICTED_SECONDS = 1.0  # a container that ends when told to


class Timed(Explainer):
    """Notes how long each explanation takes, in ``seconds``."""

    seconds: list[float]

    async def explain(self, namespace: str, pod: str) -> Explanation | None:
        """Explain a pod."""
        began = time.perf_counter()
        try:
            return await super().explain(namespace, pod)
        finally:
            self.seconds.append(time.perf_counter() - began)


class Churn:
    """A served extender, and what goes on around it."""

    def __init__(self, nodes: int, names: int, *, realised_after: float, seed: int) -> None:
        self._chance = random.Random(seed)
        self._cluster = AgentsCluster(realised_after=realised_after, chance=self._chance)
        self.planned: list[float] = []
        self._evictions = Evictions(gone_after=EVICTED_SECONDS)
        service = ready(self._cluster, solve=self._plan, evictor=self._evictions, events=Unread())
        self.fleet = KnownFleet(nodes, seed, service)
        self._cluster.of(self.fleet)
        self._cluster.woken = self._come_back
        knowledge = service.knowledge
        self._evictions.gone = knowledge.pod_gone
        self._residents = deque(knowledge.pods)
        self.explainer = Timed(knowledge)
        self.explainer.seconds = []
        self._names = min(names, nodes)
        self._pods = itertools.count()
        self._url = ""
        self._refused: deque[dict[str, Any]] = deque()
        self._again: deque[dict[str, Any]] = deque()
        self.binds: set[asyncio.Task[None]] = set()
        self.bound = self.failed = self.events = 0

    @property
    def evicted(self) -> int:
        """How many pods were evicted for others."""
        return len(self._evictions.pods)

    async def _plan(self, work: Callable[[], JointPlan]) -> JointPlan:
        began = time.perf_counter()
        try:
            return await in_thread(work)
        finally:
            self.planned.append(time.perf_counter() - began)

    def _come_back(self) -> None:
        """Let those come back who were refused."""
        self._again.extend(self._refused)
        self._refused.clear()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Connection]:
        """Serve the hooks, judge nodes in the background, and yield the scheduler's connection."""
        async with (
            collected_between_answers(),
            serving(self.fleet.service) as self._url,
            connected(self._url) as scheduler,
        ):
            judging = asyncio.create_task(self.fleet.service.keep_up(), name="keep-up")
            current = asyncio.create_task(self._stay_current(), name="stay-current")
            deque(self.fleet.service.knowledge.fleet.catching_up(at_once=64), maxlen=0)
            self._stop_judging = judging.cancel
            try:
                yield scheduler
            finally:
                judging.cancel()
                current.cancel()

    @asynccontextmanager
    async def background(self) -> AsyncIterator[None]:
        """Do all that ``serve`` does besides, until the block ends."""
        service = self.fleet.service
        self._stop_judging()
        teller = Teller(service.knowledge, self.explainer, Unread())
        unadmitted = UnadmittedTeller(service.knowledge, Unread())
        work = [
            asyncio.create_task(service.run(), name="service"),
            asyncio.create_task(teller.run(), name="teller"),
            asyncio.create_task(unadmitted.run(), name="unadmitted"),
        ]
        try:
            yield
        finally:
            for task in work:
                task.cancel()
            await asyncio.wait(work)

    async def _stay_current(self) -> None:
        """Renew Leases one after the other, all in RENEWED_SECONDS, until cancelled."""
        self.fleet.renew()
        names, at_once = self.fleet.names, 1 + len(self.fleet.names) // 1000
        for turn in itertools.count():
            for at in range(turn * at_once, (turn + 1) * at_once):
                self.fleet.service.knowledge.lease(names[at % len(names)], f"turn-{turn}")
            await asyncio.sleep(RENEWED_SECONDS * at_once / len(names))

    async def refuse(self, scheduler: Connection) -> None:
        """Let pods come that fit nowhere, and some that may go only to nodes without room."""
        for _ in range(REFUSED):
            await scheduler.post("filter", question(self._new(NOWHERE), self.fleet.names))
        for _ in range(PREEMPTORS):
            launcher = self._new(PREEMPTORS_WANT, priority=PRIORITY)
            answer = await scheduler.post("filter", question(launcher, self.fleet.names))
            filtered = msgspec.json.decode(answer, type=wire.FilterResult)
            full = tuple(filtered.failed_and_unresolvable_nodes)
            await scheduler.post("filter", question(launcher, full))

    def _new(self, resource: str, *, priority: int = 0) -> dict[str, Any]:
        """Return a new pod, which the watch has shown."""
        launcher = pod(f"vm-{next(self._pods):06}", resource)
        launcher["spec"]["priority"] = priority
        self._cluster.comes(launcher)
        return launcher

    async def cycle(self, scheduler: Connection, times: Times, *, bind: bool) -> None:
        """Take a pod through filter and prioritize; then begin its bind, or let it go."""
        if bind and self._again:
            launcher = self._again.popleft()
        else:
            launcher = self._new(self._chance.choice(TYPES))
        uid = launcher["metadata"]["uid"]
        names = self._chance.sample(self.fleet.names, self._names)
        answer = await times.of(scheduler, "filter", question(launcher, names))
        filtered = msgspec.json.decode(answer, type=wire.FilterResult)
        assert not filtered.error
        passed = filtered.node_names or ()
        if len(passed) > 1:
            answer = await scheduler.post("prioritize", question(launcher, passed))
            scores = msgspec.json.decode(answer, type=tuple[wire.HostPriority, ...])
            passed = (max(scores, key=lambda each: each.score).host,)
        if not bind:
            self.fleet.service.knowledge.pod_gone(uid)
        elif not passed:
            self._refused.append(launcher)
        else:
            work = self._bind(launcher, passed[0])
            task = asyncio.create_task(work, name=f"bind-{uid}")
            self.binds.add(task)
            task.add_done_callback(self.binds.discard)

    async def _bind(self, launcher: dict[str, Any], node: str) -> None:
        metadata: Mapping[str, str] = launcher["metadata"]
        args = {
            "PodName": metadata["name"],
            "PodNamespace": metadata["namespace"],
            "PodUID": metadata["uid"],
            "Node": node,
        }
        async with connected(self._url) as connection:
            answer = await connection.post("bind", msgspec.json.encode(args))
        if msgspec.json.decode(answer, type=wire.BindingResult).error:
            self.failed += 1
            return
        self.bound += 1
        self._cluster.runs(metadata["uid"], node)
        self._residents.append(metadata["uid"])
        self.fleet.service.knowledge.pod_gone(self._residents.popleft())

    async def bring_events(self, per_second: int) -> None:
        """Bring so many events a second, one by one as a watch does, until cancelled."""
        started, leases = time.perf_counter(), itertools.cycle(self.fleet.names)
        before = self.events
        while True:
            due = (time.perf_counter() - started) * per_second
            if self.events - before >= due:
                await asyncio.sleep(0.001)
                continue
            self.events += 1
            if self.events % 2:
                self.fleet.service.knowledge.lease(next(leases), str(self.events))
            else:
                self._cluster.change_health(self._chance.choice(self.fleet.names))
            await asyncio.sleep(0)
