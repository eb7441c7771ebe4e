"""The service: its parts put together, and the work that goes on in the background."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from extender.policy import PolicyName
from extender.service.binding import Binder
from extender.service.hooks import Hooks
from extender.service.plans import Plans
from extender.service.ports import Cluster, ClusterUnavailable
from extender.service.reclaim import Reclaimer
from extender.service.state import State
from extender.settings import Settings

log = structlog.get_logger()


def new_assignment_id() -> str:
    """Return an id no other assignment has: 48 random bits, short for the plan's size."""
    return uuid.uuid4().hex[:12]


class Service:
    """One extender process: answers the hooks, writes plans, takes back what nobody uses."""

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings | None = None,
        policy: PolicyName = PolicyName.DEFAULT,
        *,
        clock: Callable[[], float] = time.monotonic,
        utc_now: Callable[[], datetime] = lambda: datetime.now(UTC),
        new_id: Callable[[], str] = new_assignment_id,
    ) -> None:
        self.settings = settings or Settings()
        self.state = State(self.settings, policy, clock=clock)
        self.hooks = Hooks(self.state)
        plans = Plans(self.state, cluster)
        self.binder = Binder(self.state, plans, cluster, new_id=new_id, utc_now=utc_now)
        self._reclaimer = Reclaimer(self.state, plans, cluster, active=self.binder.active)
        self._cluster = cluster
        self._utc_now = utc_now
        self.wakes = 0

    async def run(self) -> None:
        """Do the background work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sweep(), name="sweep")
            tasks.create_task(self._reclaim(), name="reclaim")
            tasks.create_task(self._wake(), name="wake")

    async def _sweep(self) -> None:
        while True:
            self.state.tick()
            if not self.state.not_ready():
                await self._reclaimer.sweep()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.settings.sweep_interval):
                    await self.state.arrivals.wait()
            self.state.arrivals.clear()

    async def _reclaim(self) -> None:
        while True:
            await self.state.departures.wait()
            self.state.departures.clear()
            if not self.state.not_ready():
                uids = tuple(self.state.suspects)
                self.state.suspects.clear()
                await self._reclaimer.suspect(uids)

    async def _wake(self) -> None:
        """Wake rejected pods when room appears, and once at the start: who was rejected is lost."""
        self.state.room.set()
        while True:
            await self.state.room.wait()
            if not self.state.not_ready():
                # Cleared before the patch: room that appears meanwhile asks for another one.
                self.state.room.clear()
                try:
                    await self._cluster.wake(self._utc_now().isoformat())
                    self.wakes += 1
                except ClusterUnavailable as error:
                    log.warning("wake_postponed", error=str(error))
                    self.state.room.set()
            await asyncio.sleep(self.settings.wake_interval)
