"""The hooks beside a floor that decides nothing, asked about the same pods by turns.

Like with like: floor and hooks are asked about each pod one after the other, by turns the one first
and the other; before the floor is asked, all that the changes ask of the service is done, so that
none of it is counted as the floor's. What the floor looks up lies in memory as it does for Tangram:
names side by side, equal reasons once.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from benchmarks.fleet import GPUS, RESOURCE, TYPES, KnownFleet, ready
from benchmarks.floor import Answers, Floor, Known
from benchmarks.http import Connection, Times, connected
from benchmarks.launchers import pod, question
from extender import wire
from extender.cli.garbage import collected_between_answers
from extender.server import serving

IN_FLIGHT = 20  # chosen and not yet bound: 2 (p50) to 35 pods were seen to be
PAUSE_SECONDS = 0.005  # to be served by a busy machine like one that has just been waiting
VERBS = ("filter", "prioritize")
FITTING = tuple((RESOURCE.format(vgpu), 1) for vgpu in TYPES)
REJECTED = (
    (RESOURCE.format("7-80C"), GPUS),
    (RESOURCE.format("4-40C"), GPUS),
    ("nvidia.com/GRID_A100-1-5C", 1),
)

Kind = tuple[str, int]
"""A resource, and how many of it a pod asks for."""

SideTimes = dict[str, dict[str, Times]]
"""By side, ``hooks`` and ``floor``, and verb."""


def no_times() -> SideTimes:
    """Return what is to be measured by :meth:`Turns.ask`, before anything was."""
    return {side: {verb: Times() for verb in VERBS} for side in ("hooks", "floor")}


class Turns:
    """The hooks and the floor, each behind a server of its own, asked in turns."""

    def __init__(self, nodes: int, *, changes: int, seed: int) -> None:
        self.fleet = KnownFleet(nodes, seed)
        self.floor = Floor()
        self._chance = random.Random(seed)
        self.changes = changes
        self._pods = itertools.count()
        self._in_flight: deque[str] = deque()
        self.connections: dict[str, Connection] = {}
        self._side_by_side = " ".join(self.fleet.names).split(" ")
        self._known: dict[Kind, Known] = {}
        self._turns = itertools.cycle((True, False))

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Serve both, and judge nodes in the background as the extender does."""
        plain = ready()
        plain.hooks = self.floor
        async with (
            collected_between_answers(),
            serving(self.fleet.service) as hooks_url,
            serving(plain) as floor_url,
            connected(hooks_url) as hooks,
            connected(floor_url) as floor,
        ):
            self.connections = {"hooks": hooks, "floor": floor}
            keeping_up = asyncio.create_task(self.fleet.service.keep_up(), name="keep-up")
            try:
                self.catch_up()
                yield
            finally:
                keeping_up.cancel()

    async def ask(self, kind: Kind, names: Sequence[str], times: SideTimes) -> None:
        """Send a new pod through filter and prioritize, as kube-scheduler would, after changes.

        The floor is asked about the same pod before or after, once it knows anything to answer.
        """
        launcher = pod(self.new_pod(), kind[0], amount=kind[1])
        changed = self.fleet.some_changed(self.changes)
        self.fleet.renew()
        known, hooks_first = self._known.get(kind), next(self._turns)
        if known is not None and not hooks_first:
            await self._ask_floor(launcher, names, times["floor"], known)
        answers = await self._ask_hooks(launcher, names, times["hooks"], changed)
        if known is None:
            known = self._known[kind] = Known(self._side_by_side, *answers)
            hooks_first = True
        if hooks_first:
            # By what the last pod of the kind was answered: made just now, it would be in caches.
            await self._ask_floor(launcher, names, times["floor"], known)
        known.learn(*answers)

    async def _ask_hooks(
        self,
        launcher: dict[str, Any],
        names: Sequence[str],
        times: dict[str, Times],
        changed: Sequence[bytes],
    ) -> Answers:
        """Ask right after changes: what they ask of the service is the hooks' to bear."""
        await asyncio.sleep(PAUSE_SECONDS)
        self.fleet.hear(changed)
        return await self._through("hooks", launcher, names, times)

    async def _ask_floor(
        self,
        launcher: dict[str, Any],
        names: Sequence[str],
        times: dict[str, Times],
        known: Known,
    ) -> Answers:
        """Ask once the service has nothing left to do."""
        self.catch_up()
        self.floor.reasons, self.floor.scores = known.reasons, known.scores
        await asyncio.sleep(PAUSE_SECONDS)
        return await self._through("floor", launcher, names, times)

    async def _through(
        self,
        side: str,
        launcher: dict[str, Any],
        names: Sequence[str],
        times: dict[str, Times],
    ) -> Answers:
        """Ask filter, and prioritize about the nodes that pass, if these are several."""
        connection, body = self.connections[side], question(launcher, names)
        answer = await times["filter"].of(connection, "filter", body)
        filtered = msgspec.json.decode(answer, type=wire.FilterResult)
        assert not filtered.error
        passed = filtered.node_names or ()
        if len(passed) < 2:
            return filtered, ()
        body = question(launcher, passed)
        answer = await times["prioritize"].of(connection, "prioritize", body)
        return filtered, msgspec.json.decode(answer, type=tuple[wire.HostPriority, ...])

    def catch_up(self) -> None:
        """Have all classes judged for which nodes have changed."""
        deque(self.fleet.service.knowledge.fleet.catching_up(at_once=64), maxlen=0)

    def new_pod(self) -> str:
        """Name a pod; the one that has been in flight for longest is gone."""
        name = f"vm-{next(self._pods):06}"
        self._in_flight.append(f"uid-{name}")
        if len(self._in_flight) > IN_FLIGHT:
            self.fleet.service.knowledge.pod_gone(self._in_flight.popleft())
        return name

    def names(self, count: int) -> list[str]:
        """Return so many names, or all, in arbitrary order."""
        return self._chance.sample(self.fleet.names, min(count, len(self.fleet.names)))
