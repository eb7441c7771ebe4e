"""kube-scheduler's part in a race: cycles one after the other, binds side by side, retries.

A pod that filter refused comes back upon an event (a pod bound or gone, a wake-up) and after its
backoff; one whose call failed comes back after its backoff alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from nodeagent.api import keys
from nodeagent.apiserver.history import Write
from nodeagent.apiserver.protocol import LEASES, PODS, Kind
from tests.chaos.judge import Judge
from tests.chaos.loop import SeededLoop
from tests.chaos.scheduler import Extender, Scheduler
from tests.chaos.wire import LATENCY_SECONDS
from tests.fakes.world import filter_args

FIRST_BACKOFF_SECONDS = 1.0  # kube-scheduler's podInitialBackoffSeconds
LONGEST_BACKOFF_SECONDS = 10.0  # and podMaxBackoffSeconds
NO_ANSWER = "(no answer in time)"
TWICE = 0.2  # how often a bind is called a second time, by whomever
LATE_BY_SECONDS = 3.0  # on average
CHANGED_WITHIN_SECONDS = 12.0  # twice the Lease of the chaos tests


class Refusal(msgspec.Struct, frozen=True):
    """A filter's answer that lets a pod go nowhere: by whom, when, and the reason for each node."""

    by: str
    at: float
    reasons: Mapping[str, str]


class Tally(msgspec.Struct):
    """How much there was of everything; texts are counted by their words."""

    filters: int = 0
    passed: int = 0
    binds: int = 0
    at_both: int = 0
    refusals: Counter[str] = msgspec.field(default_factory=Counter)
    errors: Counter[str] = msgspec.field(default_factory=Counter)


class Contest(Scheduler):
    """Schedules the pods it is told of, each by itself.

    *dawdle* is how long, at most, a pod takes from its filter to its bind. While ``both`` is set,
    every bind is called at both extenders. ``binding`` hears of each bind before it is called.
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
        dawdle: float,
    ) -> None:
        super().__init__(loop, judge, chance, extenders, nodes, timeout=timeout, late=lambda: False)
        self.tally = Tally()
        self.last: dict[str, Refusal | None] = {}
        self.both = False
        self.binding: Callable[[Extender], None] = lambda _: None
        self._dawdle = dawdle
        self._passed: list[tuple[dict[str, Any], str]] = []
        self._cycle = asyncio.Lock()
        self._event = asyncio.Event()
        self._lease = asyncio.Event()
        self._under_way = 0

    async def run(self) -> None:
        """Nothing: each pod has its own turns."""

    @property
    def busy(self) -> bool:
        """Whether a bind is under way."""
        return self._under_way > 0

    def add(self, pod: dict[str, Any], nodes: tuple[str, ...] = ()) -> None:
        """Schedule *pod* from now on; in a race any node will do."""
        assert not nodes
        self._loop.spawn_outside(self._race(pod))

    def saw(self, kind: Kind, write: Write) -> None:
        """Hear of a write: a pod bound or gone, or a wake-up, lets refused pods come back."""
        if kind == LEASES:
            self._lease.set()
            self._lease = asyncio.Event()
        if kind != PODS:
            return
        before = write.before.value() if write.before else {}
        after = write.after.value() if write.after else {}
        if write.key[0] == keys.SYSTEM_NAMESPACE:
            moved = _stamp(before) != _stamp(after)
        else:
            moved = bool(_node(before)) != bool(_node(after))
        if moved:
            self._event.set()
            self._event = asyncio.Event()

    async def ask_both(self, old: str) -> None:
        """Call all binds there were at both extenders, as soon as another than *old* leads.

        That may never be; then they are called in the end. New ones are called at both meanwhile.
        """
        self._under_way += 1
        try:
            self.both = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHANGED_WITHIN_SECONDS):
                    while self._judge().leads.holder in ("", old):
                        await self._lease.wait()
            await asyncio.gather(*(self._at_both(pod, node) for pod, node in tuple(self._passed)))
        finally:
            self._under_way -= 1

    async def _at_both(self, pod: dict[str, Any], node: str) -> None:
        await asyncio.sleep(self._chance.random())
        asked = self._extenders()
        self.tally.at_both += len(asked) > 1
        await asyncio.gather(*(self._bound(each, pod, node) for each in asked))

    async def _race(self, pod: dict[str, Any]) -> None:
        uid, backoff = pod["metadata"]["uid"], FIRST_BACKOFF_SECONDS
        while self._waits(uid):
            tried, event = self._loop.time(), self._event
            async with self._cycle:
                extender = self._asked()
                node = "" if extender is None else await self._chosen(extender, pod)
            if extender is not None and node:
                await asyncio.sleep(self._dawdle * self._chance.random())
                await self._bind(extender, pod, node)
            elif self.last.get(uid):
                await event.wait()
            await asyncio.sleep(max(0.0, tried + backoff - self._loop.time()))
            backoff = min(LONGEST_BACKOFF_SECONDS, 2 * backoff)

    def _waits(self, uid: str) -> bool:
        known = self._judge().pods.get(uid)
        return known is not None and not known.node and not known.deleting

    async def _chosen(self, extender: Extender, pod: dict[str, Any]) -> str:
        hooks, uid = extender.replica.service.hooks, pod["metadata"]["uid"]

        async def answer() -> str:
            found = hooks.filter(filter_args(pod, *self._nodes))
            names = tuple(found.node_names or ())
            if found.error:
                self.tally.errors[found.error] += 1
                return ""
            if not names:
                reasons = found.failed_and_unresolvable_nodes
                self.tally.refusals.update(reasons.values())
                self.last[uid] = Refusal(repr(extender.process), self._loop.time(), reasons)
                return ""
            self.tally.passed += 1
            if len(names) == 1:
                return names[0]
            ranked = hooks.prioritize(filter_args(pod, *names))
            return max(ranked, key=lambda each: each.score).host

        self.tally.filters += 1
        self.last[uid] = None
        await asyncio.sleep(LATENCY_SECONDS)
        return await self._answered(extender.process, answer()) or ""

    async def _bind(self, extender: Extender, pod: dict[str, Any], node: str) -> None:
        self.binding(extender)
        self._passed.append((pod, node))
        asked = [extender]
        if self.both:
            asked += [each for each in self._extenders() if each is not extender]
            self.tally.at_both += len(asked) > 1
        if self._chance.random() < TWICE:
            self._loop.spawn_outside(self._again(extender, pod, node))
        await asyncio.gather(*(self._bound(each, pod, node) for each in asked))

    async def _again(self, extender: Extender, pod: dict[str, Any], node: str) -> None:
        self._under_way += 1
        try:
            await asyncio.sleep(self._chance.expovariate(1 / LATE_BY_SECONDS))
            there = [each for each in self._extenders() if each.process.alive]
            if there:
                await self._bound(self._chance.choice(there), pod, node)
        finally:
            self._under_way -= 1

    async def _bound(self, extender: Extender, pod: dict[str, Any], node: str) -> str | None:
        self._under_way += 1
        self.tally.binds += 1
        try:
            error = await super()._bound(extender, pod, node)
        finally:
            self._under_way -= 1
        if error is None:
            self.tally.errors[NO_ANSWER] += 1
        elif error:
            self.tally.errors[error] += 1
        return error


def _node(pod: Mapping[str, Any]) -> str:
    return str(pod.get("spec", {}).get("nodeName", ""))


def _stamp(pod: Mapping[str, Any]) -> str:
    annotations = pod.get("metadata", {}).get("annotations") or {}
    return str(annotations.get(keys.WAKE_ANNOTATION, ""))
