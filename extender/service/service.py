"""The service: its parts put together, and the work that goes on in the background."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from extender.policy import InForce, Policy, PolicyName
from extender.service.adoption import Adopter
from extender.service.advising import Advisor
from extender.service.binding import Binder
from extender.service.causes import LOOK_SECONDS
from extender.service.departing import Departing
from extender.service.events import NodeEvents, PodEvents
from extender.service.explaining import Explainer
from extender.service.gangs import Gangs
from extender.service.guarding import Guarding, Judge, in_process
from extender.service.headcount import Headcount
from extender.service.hooks import Hooks
from extender.service.knowledge import Knowledge
from extender.service.move_telling import MoveTeller
from extender.service.moving import Moving
from extender.service.ordering import Ordering
from extender.service.planner import Planner, Solve, in_thread
from extender.service.plans import Plans
from extender.service.ports import Cluster, ClusterUnavailable, Evictor
from extender.service.preempting import Preempting
from extender.service.reclaim import Reclaimer
from extender.service.recording import Recorder
from extender.service.relocation import Orders, Relocator
from extender.service.reservation import Reservations
from extender.service.restoring import Restorer
from extender.service.right_of_way import GivingWay
from extender.service.seam import Seam
from extender.service.surveying import Surveyor
from extender.service.tenure import Tenure
from extender.settings import Settings
from nodeagent.api import rfc3339

log = structlog.get_logger()

JUDGED_AT_ONCE = 2
"""Changed nodes judged in one turn of the loop, in some 50 us (measured): reading a request takes
several turns, and it should not wait for much else."""


def new_assignment_id() -> str:
    """Return an id no other assignment has: 48 random bits, short for the plan's size."""
    return uuid.uuid4().hex[:12]


class Service:
    """One extender process: answers the hooks, writes plans, takes back what nobody uses.

    Without a *tenure* it does so for ever. Without an *evictor* nobody is evicted, and advice knows
    of no disruption budgets; *events* tell of who is. Without *orders* and a *relocator* besides,
    no VM is moved. With a *seam*, whose clock counts then, what decisions rest on is told.
    """

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings | None = None,
        policy: InForce | Policy | PolicyName = PolicyName.DEFAULT,
        *,
        tenure: Tenure | None = None,
        clock: Callable[[], float] = time.monotonic,
        seam: Seam | None = None,
        utc_now: Callable[[], datetime] = lambda: datetime.now(UTC),
        new_id: Callable[[], str] = new_assignment_id,
        solve: Solve = in_thread,
        judge: Judge = in_process,
        evictor: Evictor | None = None,
        orders: Orders | None = None,
        relocator: Relocator | None = None,
        events: PodEvents | None = None,
        node_events: NodeEvents | None = None,
    ) -> None:
        self.settings = settings or Settings()
        seam = seam or Seam(clock)
        self.knowledge = Knowledge(
            self.settings,
            policy,
            clock=clock,
            tenure=tenure or Tenure(seam.clock, seam=seam),
            seam=seam,
        )
        self.knowledge.pending.wakes(cluster.can_wake)
        gangs = Gangs(self.knowledge)
        plans = Plans(self.knowledge, cluster)
        self.hooks = Hooks(self.knowledge, gangs)
        self._reservations = Reservations(
            self.knowledge, gangs, plans, cluster, new_id=new_id, utc_now=utc_now
        )
        self.planner = Planner(self.knowledge, gangs, self._reservations, solve=solve)
        self.binder = Binder(self.knowledge, gangs, plans, cluster, new_id=new_id, utc_now=utc_now)
        self._adopter = Adopter(self.knowledge, plans, cluster, new_id=new_id, utc_now=utc_now)
        self._recorder = Recorder(self.knowledge, plans, new_id=new_id)
        self._restorer = Restorer(self.knowledge, plans, cluster, self.binder.underway)
        self._reclaimer = Reclaimer(
            self.knowledge, plans, cluster, self.binder.underway, self._restorer
        )
        self._preempting: Preempting | None = None
        if evictor is not None:
            self._preempting = Preempting(
                self.knowledge, plans, cluster, evictor, events, new_id=new_id, utc_now=utc_now
            )
        self.guarding = Guarding(self.knowledge, judge)
        self.headcount = Headcount(self.knowledge, utc_now)
        self.explainer = Explainer(self.knowledge)
        self.surveyor = Surveyor(self.knowledge, utc_now)
        departing = None
        if evictor is not None and relocator is not None:
            departing = Departing(self.knowledge, evictor, relocator)
        self.advisor = Advisor(self.knowledge, evictor, departing, utc_now=utc_now)
        self.moving: Moving | None = None
        self.ordering: Ordering | None = None
        if departing is not None and orders is not None:
            teller = MoveTeller(self.knowledge, events, node_events)
            self.moving = Moving(self.knowledge, plans, orders, departing, teller, utc_now=utc_now)
            self.ordering = Ordering(
                self.knowledge, self.advisor, self.moving, new_id=new_id, utc_now=utc_now
            )
        self._cluster = cluster
        self._utc_now = utc_now
        self.wakes = 0

    async def run(self) -> None:
        """Do the background work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_time(), name="keep-time")
            tasks.create_task(self.keep_up(), name="keep-up")
            tasks.create_task(self._sweep(), name="sweep")
            tasks.create_task(self._reclaim(), name="reclaim")
            tasks.create_task(self._wake(), name="wake")
            if self._preempting is not None:
                tasks.create_task(self._preempting.run(), name="preempt")
            if self.moving is not None:
                tasks.create_task(self.moving.run(), name="move")
            tasks.create_task(self.guarding.run(), name="guard")
            tasks.create_task(self._tell_causes(), name="tell-causes")
            tasks.create_task(self.headcount.run(), name="headcount")

    def stop(self) -> None:
        """Answer the binds that wait, for this process is going away; their places are kept."""
        self.knowledge.stop()

    async def _keep_time(self) -> None:
        while True:
            self.knowledge.tick()
            if self.planner.tick():
                self.knowledge.room.set()
            await asyncio.sleep(self.settings.sweep_interval_seconds)

    async def keep_up(self) -> None:
        """Judge nodes as they change, in turns with the hooks, which need not; until cancelled."""
        while True:
            await self.knowledge.behind.wait()
            self.knowledge.behind.clear()
            for _ in self.knowledge.fleet.catching_up(at_once=JUDGED_AT_ONCE):
                await self.knowledge.way.give_way()

    async def _sweep(self) -> None:
        while True:
            if not self.knowledge.not_ready():
                await self._reclaimer.sweep()
                await self._restorer.sweep()
                await self._recorder.sweep()
                await self._adopter.sweep()
                await self._reservations.sweep()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.settings.sweep_interval_seconds):
                    await self.knowledge.arrivals.wait()
            self.knowledge.arrivals.clear()

    async def _reclaim(self) -> None:
        """Look at pods as they leave; those that leave later do not wait until it is done."""
        async with asyncio.TaskGroup() as looks:
            while True:
                await self.knowledge.departures.wait()
                self.knowledge.departures.clear()
                if self.knowledge.tenure.why_not():
                    self.knowledge.suspects.clear()  # the sweep of a new term finds them all
                if not self.knowledge.not_ready():
                    uids = tuple(self.knowledge.suspects)
                    self.knowledge.suspects.clear()
                    looks.create_task(self._reclaimer.suspect(uids), name="suspects")

    async def _tell_causes(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.knowledge.causes.look(
                GivingWay(dict(self.knowledge.views), self.knowledge.way)
            )

    async def _wake(self) -> None:
        """Wake rejected pods when room appears, and once at the start: who was rejected is lost.

        Those that wait are planned together first, so that each finds the place meant for it.
        """
        self.knowledge.room.set()
        while True:
            await self.knowledge.room.wait()
            if not self.knowledge.not_ready():
                await self.planner.settle()
                # Cleared before the plan: room that appears meanwhile asks for another one.
                self.knowledge.room.clear()
                await self.planner.plan()
                try:
                    await self._cluster.wake(rfc3339.microseconds(self._utc_now()))
                    self.wakes += 1
                    self.knowledge.work.woke()
                except ClusterUnavailable as error:
                    log.warning("wake_postponed", error=str(error))
                    self.knowledge.room.set()
                    await asyncio.sleep(error.retry_after)
            await asyncio.sleep(self.settings.wake_interval_seconds)
