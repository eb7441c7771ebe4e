"""Rounds of load, fault, recovery and judgement, one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable

import msgspec

from tests.e2e.chaos.census import Census, Meter
from tests.e2e.chaos.checker import Checker
from tests.e2e.chaos.faults import Fault
from tests.e2e.chaos.history import history
from tests.e2e.chaos.load import Load, Pace
from tests.e2e.chaos.site import HOLD_SECONDS, Site
from tests.e2e.chaos.verdict import settled
from tests.waiting import until

ENOUGH_PER_SECOND = 100.0  # below that, etcd's own robustness tests count for nothing
MEASURED_SECONDS = 3.0
CALM_SECONDS = 1.0
LOADED_WITHIN_SECONDS = 60.0
RECOVERS_WITHIN_SECONDS = 120.0
GOES_ON_SECONDS = 4.0  # with the load, once recovered: VMs restart, and gangs come
LOOKS_EVERY_SECONDS = 0.05


class Round(msgspec.Struct, frozen=True):
    """What came of one fault.

    ``writes_per_second`` (of pods, GpuNodes and Nodes, as etcd committed them) and
    ``hooks_per_second`` (those the load itself called, and had answered) were measured just before
    it. ``recovered_seconds`` is from its beginning to when a VM was bound that was created after
    that, ``settled_seconds`` to the last write before all was at rest; None if it never was.
    ``held`` places were kept for VMs that restarted, ``found_again`` of them were had by the next
    pod, ``released`` left a plan with their pods, and ``gangs`` began to be bound, from the
    beginning of the load to the round's end.
    """

    fault: str
    writes_per_second: float
    hooks_per_second: float
    recovered_seconds: float | None
    settled_seconds: float | None
    bound: int
    held: int
    found_again: int
    released: int
    gangs: int
    violations: tuple[str, ...]

    @property
    def operations_per_second(self) -> float:
        """Writes and calls together."""
        return self.writes_per_second + self.hooks_per_second

    def __str__(self) -> str:
        recovered, settled = (
            "never" if each is None else f"after {each:.1f} s"
            for each in (self.recovered_seconds, self.settled_seconds)
        )
        return (
            f"first VM bound {recovered}, settled {settled}, {self.bound} bound,"
            f" {self.held} places held and {self.found_again} found again,"
            f" {self.released} given back, {self.gangs} gangs,"
            f" {len(self.violations)} violations"
        )


class Campaign:
    """The rounds on one site; *tell* hears what is going on."""

    def __init__(
        self, site: Site, *, pace: Pace, chance: random.Random, tell: Callable[[str], None]
    ) -> None:
        self._site = site
        self._tell = tell
        self.violations: list[str] = []
        """All there were; a round has those since the one before."""
        self._counted = 0
        clock = asyncio.get_running_loop().time
        self._checker = Checker(site.foreign, self._broken, hold_seconds=HOLD_SECONDS, clock=clock)
        self._census = Census(clock)
        self._load = Load(site, self._checker.pods, pace, chance)

    @contextlib.asynccontextmanager
    async def prepared(self) -> AsyncIterator[None]:
        """Follow the site's history and keep the load ready until the block ends."""
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(self._observe(), name="observe"),
                tasks.create_task(self._load.run(), name="load"),
            ]
            await self._caught_up()
            yield
            for task in running:
                task.cancel()

    async def _caught_up(self) -> None:
        """Wait until all that was written before any load has been seen, and is not counted."""
        clock = asyncio.get_running_loop().time
        await until(
            lambda: clock() - self._census.last_write >= CALM_SECONDS,
            within=LOADED_WITHIN_SECONDS,
            every=LOOKS_EVERY_SECONDS,
        )

    async def _observe(self) -> None:
        async with contextlib.aclosing(history(self._site.plane.etcd_url)) as writes:
            async for write in writes:
                self._checker.see(write)
                self._census.see(write, self._checker.pods.get(write.key))

    def _broken(self, what: str) -> None:
        self.violations.append(what)
        self._tell(f"BROKEN {what}")

    async def round(self, fault: Fault, *, rest: bool = True) -> Round:
        """Let one thing go wrong, and see what comes of it.

        Without *rest* the load goes on, and what is left behind is seen after a later round.
        """
        clock = asyncio.get_running_loop().time
        counted = self._counts()
        self._load.resume()
        writes, hooks = await self._measured()
        self._tell(f"{fault.name}: {writes:.0f} writes/s, {hooks:.0f} hook calls/s")
        async with fault.strike(self._site):
            begun = clock()
            await asyncio.sleep(fault.seconds)
        self._tell(f"{fault.name}: over after {clock() - begun:.1f} s")
        recovered = await self._recovered(begun)
        settled_at: float | None = None
        if rest:
            await asyncio.sleep(GOES_ON_SECONDS)
            self._load.pause()
            settled_at = await self._rested()
        if recovered is None:
            self._broken(f"no VM was bound in {RECOVERS_WITHIN_SECONDS:g} s")
        held, found_again, released, gangs = (
            now - before for now, before in zip(self._counts(), counted, strict=True)
        )
        done = Round(
            fault=fault.name,
            writes_per_second=writes,
            hooks_per_second=hooks,
            recovered_seconds=None if recovered is None else recovered - begun,
            settled_seconds=None if settled_at is None else settled_at - begun,
            bound=self._census.bound_between(begun, clock()),
            held=held,
            found_again=found_again,
            released=released,
            gangs=gangs,
            violations=tuple(self.violations[self._counted :]),
        )
        self._counted = len(self.violations)
        self._tell(f"{fault.name}: {done}")
        return done

    async def _rested(self) -> float | None:
        """Wait until all is at rest; return when it was last written, None if not all is right."""
        wrong = await settled(self._site, self._census)
        for each in wrong:
            self._broken(each)
        return None if wrong else self._census.last_write

    def _counts(self) -> tuple[int, int, int, int]:
        """Return how many holds were made and found again, places given back, and gangs begun."""
        seen = self._checker
        holds, released = seen.holds, seen.releases.seen
        return holds.made, holds.found_again, released, len(seen.gangs.begun)

    async def _measured(self) -> tuple[float, float]:
        """Wait until the load is what it should be, or for so long, and return both its rates."""
        clock = asyncio.get_running_loop().time
        writes, hooks = Meter(clock, MEASURED_SECONDS), Meter(clock, MEASURED_SECONDS)
        deadline = clock() + LOADED_WITHIN_SECONDS
        while True:
            rates = writes.read(self._census.writes), hooks.read(self._load.answered)
            if sum(rates) >= ENOUGH_PER_SECOND or clock() > deadline:
                return rates
            await asyncio.sleep(LOOKS_EVERY_SECONDS)

    async def _recovered(self, begun: float) -> float | None:
        """Return when a VM was bound that was created after a time."""
        clock = asyncio.get_running_loop().time
        while (bound := self._census.first_bound(begun)) is None:
            if clock() > begun + RECOVERS_WITHIN_SECONDS:
                return None
            await asyncio.sleep(LOOKS_EVERY_SECONDS)
        return bound
