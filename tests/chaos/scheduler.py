"""kube-scheduler's part: one pod after the other is filtered and ranked, binds run side by side.

It comes back for every pod that is still pending, asks whoever leads (or seems to), gives up a call
after its timeout though the call goes on, and now and then makes one twice, or late. Where pods are
ranked it asks for some whom it may evict, and evicts nobody.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from extender.cluster import Replica
from extender.service.ports import TRANSIT_SECONDS
from extender.wire import ExtenderArgs, PreemptionArgs
from tests.chaos.judge import Judge
from tests.chaos.loop import Process, SeededLoop
from tests.chaos.pods import Pod
from tests.chaos.proposals import proposed
from tests.chaos.wire import LATENCY_SECONDS
from tests.fakes.world import bind_args, filter_args

_T = TypeVar("_T")
AGAIN = 0.04  # how often a bind is called a second time
ELSEWHERE = 0.3  # how often that is for another node
LATE_NEWS = 0.1  # how often a pod is tried though it is bound or gone: the watch is late
CHOOSY = 0.05  # how often another plugin leaves a single candidate
ARRIVES_WITHIN_SECONDS = 1.0 + TRANSIT_SECONDS + 0.1  # a Binding, if at all
ASTRAY = 0.05  # how often somebody is asked who does not lead
PROPOSES = 0.3  # how often it is for want of CPU, too, that a pod is refused


class Extender(msgspec.Struct):
    """A running replica."""

    process: Process
    replica: Replica
    stop: asyncio.Event


class _Call(msgspec.Struct):
    process: Process
    answered: bool = False


class Scheduler:
    """Schedules the pods it is told of; *timeout* is of each call, in seconds.

    *late* tells whether it does not hear at present what becomes of pods.
    """

    def __init__(
        self,
        loop: SeededLoop,
        judge: Callable[[], Judge],
        chance: random.Random,
        extenders: Callable[[], Sequence[Extender]],
        nodes: Sequence[str],
        *,
        timeout: float,
        late: Callable[[], bool],
        ranked: bool = False,
    ) -> None:
        self._ranked = ranked
        self._loop = loop
        self._judge = judge
        self._chance = chance
        self._extenders = extenders
        self._nodes = tuple(nodes)
        self._timeout = timeout
        self._late = late
        self._pods: dict[str, dict[str, Any]] = {}
        self._only: dict[str, tuple[str, ...]] = {}
        self._asked_about: dict[tuple[str, tuple[str, ...]], ExtenderArgs] = {}
        self._due: list[tuple[float, str]] = []
        self._calls: dict[str, list[_Call]] = {}
        self._binds: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self.binds = 0
        self.followed = 0

    def add(self, pod: dict[str, Any], nodes: tuple[str, ...] = ()) -> None:
        """Schedule *pod* from now on, on these *nodes* only, if any are named."""
        uid = pod["metadata"]["uid"]
        if nodes:
            self._only[uid] = nodes
        self._pods[uid] = pod
        self._schedule(uid, self._loop.time())

    def relent(self) -> None:
        """Let every pod go to any node."""
        self._only.clear()

    def waited_for(self, uid: str) -> bool:
        """Tell whether a bind of the pod has not been answered yet.

        Of a process that has died there will be no answer, but what it had sent may arrive.
        """
        now = self._loop.time()
        return any(
            not call.answered
            and (call.process.alive or now < call.process.ended_at + ARRIVES_WITHIN_SECONDS)
            for call in self._calls.get(uid, ())
        )

    @property
    def busy(self) -> bool:
        """Whether a bind is under way."""
        return bool(self._binds)

    async def run(self) -> None:
        """Schedule for ever."""
        while True:
            now = self._loop.time()
            if not self._due or self._due[0][0] > now:
                self._news.clear()
                alarm = self._loop.call_at(self._due[0][0], self._news.set) if self._due else None
                await self._news.wait()
                if alarm is not None:
                    alarm.cancel()
                continue
            _, uid = heapq.heappop(self._due)
            known = self._judge().pods.get(uid)
            there = known is not None and not (known.node or known.over or known.deleting)
            if not there and not self._late() and self._chance.random() > LATE_NEWS:
                self._pods.pop(uid, None)
                continue
            await self._attempt(uid)

    async def _attempt(self, uid: str) -> None:
        pod, extender = self._pods[uid], self._asked()
        node = "" if extender is None else await self._chosen(extender, pod)
        if extender is None or not node:
            if extender is not None and self._ranked and self._chance.random() < PROPOSES:
                await self._propose(extender, pod)
            self._try_again(uid)
            return
        task = asyncio.create_task(self._bind(extender, pod, node))
        self._binds.add(task)
        task.add_done_callback(self._binds.discard)

    def _asked(self) -> Extender | None:
        """Return whom the Service points to, now and then somebody else."""
        there = self._extenders()
        if there and self._chance.random() < ASTRAY:
            return self._chance.choice(there)
        holder = self._judge().leads.holder
        return next((each for each in there if repr(each.process) == holder), None)

    async def _chosen(self, extender: Extender, pod: dict[str, Any]) -> str:
        hooks = extender.replica.service.hooks

        candidates = self._only.get(pod["metadata"]["uid"], self._nodes)
        if self._chance.random() < CHOOSY:
            candidates = (self._chance.choice(candidates),)

        about = pod["metadata"]["uid"], candidates
        args = self._asked_about.get(about)
        if args is None:  # the same bytes are read to the same values, each time a pod is tried
            args = self._asked_about[about] = filter_args(pod, *candidates)

        def answer() -> Sequence[str]:
            found = hooks.filter(args)
            names = tuple(found.node_names or ())
            if found.error or len(names) < 2:
                return () if found.error else names
            ranked = hooks.prioritize(msgspec.structs.replace(args, node_names=names))
            return (max(ranked, key=lambda each: each.score).host,)

        async def late() -> Sequence[str]:
            return answer()

        await asyncio.sleep(LATENCY_SECONDS)
        process = extender.process
        if process.frozen:
            names = await self._answered(process, late())
        else:
            names = self._answered_at_once(process, answer)
        return names[0] if names else ""

    async def _propose(self, extender: Extender, pod: dict[str, Any]) -> None:
        """Ask whom to evict for a pod, unless nobody is below it, or there is no answer."""
        judge, service, process = self._judge(), extender.replica.service, extender.process
        known = judge.pods.get(pod["metadata"]["uid"])
        asked = {} if known is None else proposed(self._chance, known, judge.pods)
        await asyncio.sleep(LATENCY_SECONDS)
        if known is None or not asked or process.frozen or not process.alive:
            return
        args = PreemptionArgs(filter_args(pod).pod, node_name_to_meta_victims={**asked})
        before = service.knowledge.ledger
        try:
            answer = self._loop.ask(process, lambda: service.hooks.preempt(args))
        except Exception as error:  # noqa: BLE001 - it is the process's end
            judge.crashed(process, error)
            return
        promised = service.knowledge.ledger != before
        kept = answer.node_name_to_meta_victims
        judge.vetted(process.label, known, asked, kept, promised=promised)

    async def _bind(self, extender: Extender, pod: dict[str, Any], node: str) -> None:
        if self._chance.random() < AGAIN:
            again = asyncio.create_task(self._again(extender, pod, node))
            self._binds.add(again)
            again.add_done_callback(self._binds.discard)
        uid = pod["metadata"]["uid"]
        meant = extender.replica.service.knowledge.ledger.planned.get(uid)
        error = await self._bound(extender, pod, node)
        if error != "":
            self._try_again(uid)
        elif meant is not None and (bound := self._judge().pods.get(uid)) is not None:
            self.followed += bound.node == meant.node and _places(bound) == {
                (each.uuid, each.profile_id, each.placement.start) for each in meant.placed
            }

    async def _again(self, extender: Extender, pod: dict[str, Any], node: str) -> None:
        await asyncio.sleep(self._chance.expovariate(0.3))
        there = self._extenders()
        other = self._chance.choice([extender, *there])
        if self._chance.random() < ELSEWHERE:  # late, from an attempt before this one
            node = self._chance.choice(self._nodes)
        if other.process.alive:
            await self._bound(other, pod, node)

    async def _bound(self, extender: Extender, pod: dict[str, Any], node: str) -> str | None:
        call = _Call(extender.process)
        uid = pod["metadata"]["uid"]
        left = [each for each in self._calls.get(uid, ()) if not each.answered]
        self._calls[uid] = [*left, call]
        self.binds += 1

        async def answer() -> str:
            try:
                return (await extender.replica.service.binder.bind(bind_args(pod, node))).error
            finally:
                call.answered = True

        await asyncio.sleep(LATENCY_SECONDS)
        answered: str | None = await self._answered(extender.process, answer())
        return answered

    async def _answered(self, process: Process, work: Any) -> Any:
        """Return what *process* answers, None if it does not in time."""
        if not process.alive:
            work.close()
            return None
        task = self._loop.spawn(process, work)
        done, _ = await asyncio.wait([task], timeout=self._timeout)
        error = task.exception() if done else None
        if error is not None:
            self._judge().crashed(process, error)
        return task.result() if done and error is None else None

    def _answered_at_once(
        self, process: Process, work: Callable[[], Sequence[str]]
    ) -> Sequence[str]:
        """Return what *process*, which is not frozen, answers without awaiting anything."""
        try:
            return self._loop.ask(process, work) if process.alive else ()
        except Exception as error:  # noqa: BLE001 - it is the process's end
            self._judge().crashed(process, error)
            return ()

    def _try_again(self, uid: str) -> None:
        self._schedule(uid, self._loop.time() + self._chance.uniform(1.0, 4.0))

    def _schedule(self, uid: str, when: float) -> None:
        heapq.heappush(self._due, (when, uid))
        if self._due[0][1] == uid:
            self._news.set()


def _places(pod: Pod) -> set[tuple[str, int, int]]:
    return {(each.gpu, each.profile_id, each.start) for each in pod.decisions}
