"""What runs for as long as the agent does, and what makes it look again."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from nodeagent.actuate import Actuator
from nodeagent.agent.alarms import Alarms
from nodeagent.agent.handing import Handing
from nodeagent.agent.handout import Handout
from nodeagent.agent.passes import Passes
from nodeagent.agent.preparing import Prepare
from nodeagent.agent.reporter import Reporter
from nodeagent.api import keys
from nodeagent.api.gpunode import GpuNode
from nodeagent.apiserver.protocol import ApiError, ApiServer
from nodeagent.apiserver.reflector import DEFAULT_PACE, Pace
from nodeagent.driver import Driver, DriverError
from nodeagent.journal import Journal
from nodeagent.kubelet import Kubelet, KubeletError
from nodeagent.pod_events import PodEvents
from nodeagent.publish import Publisher
from nodeagent.purview import Purview
from nodeagent.settings import Settings

log = structlog.get_logger()

ALARM_SECONDS = 2.0  # what warning pods may add to a pass


class Agent:
    """The agent of one node; *epoch* names this process, *clock* counts seconds.

    *handout* says which pods may come where the kubelet is not ours to serve.
    *purview* is what of the node it may use; *prepare* makes GPUs ready, if that was asked for.
    *chance* draws from [0, 1).

    :meth:`run` is all a program needs, and :meth:`drain` before it cancels that. Tests may call
    :meth:`heard` and :meth:`converge` instead, one pass at a time.
    """

    def __init__(
        self,
        node: str,
        *,
        api: ApiServer,
        driver: Driver,
        kubelet: Kubelet,
        handout: Handing | None = None,
        journal: Journal,
        epoch: str,
        settings: Settings | None = None,
        purview: Purview | None = None,
        prepare: Prepare | None = None,
        pace: Pace = DEFAULT_PACE,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
        utc_now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._node = node
        self._epoch = epoch
        self._settings = settings = settings or Settings()
        self._utc_now = utc_now
        self._chance = chance
        self._driver = driver
        self._kubelet = kubelet
        self._journal = journal
        self._publisher = Publisher(api, node, timeout=settings.api_timeout_seconds, pace=pace)
        self._actuator = Actuator(
            driver, journal, within=settings.driver_timeout_seconds, clock=clock
        )
        self._reporter = Reporter(
            self._publisher,
            journal,
            epoch=epoch,
            patience=settings.rescan_seconds,
            clock=clock,
            utc_now=utc_now,
        )
        self._passes = Passes(
            self._actuator,
            handout or Handout(kubelet, within=settings.kubelet_timeout_seconds),
            self._reporter,
            Alarms(
                PodEvents(api, node, timeout=settings.api_timeout_seconds),
                within=min(ALARM_SECONDS, settings.api_timeout_seconds),
                utc_now=utc_now,
            ),
            journal,
            settings=settings,
            purview=purview or Purview(),
            prepare=prepare,
            clock=clock,
        )
        self._due = asyncio.Event()
        self._draining = False
        self._drained = asyncio.Event()
        self._gpu_node: GpuNode | None = None
        self._log = log.bind(node=node)

    async def run(self) -> None:
        """Serve the node until cancelled."""
        await self._journal.load()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_lease(), name=f"lease-{self._node}")
                tasks.create_task(self._follow_plan(), name=f"plan-{self._node}")
                tasks.create_task(self._kubelet.run(self._due.set), name=f"kubelet-{self._node}")
                tasks.create_task(self._driver.watch(self._due.set), name=f"driver-{self._node}")
                tasks.create_task(self._keep_converging(), name=f"converge-{self._node}")
        finally:
            self._actuator.abandon()

    async def drain(self) -> None:
        """Tie no more pods, and wait until those that are tied have been given their slots.

        A rolling update would else leave a pod without the agent that answers for its slot. It
        waits no longer than ``Settings.drain_seconds``: a pod that was tied may never come.
        """
        self._passes.drain()
        self._draining = True
        self._due.set()
        try:
            async with asyncio.timeout(self._settings.drain_seconds):
                await self._drained.wait()
        except TimeoutError:
            self._log.warning("drain_unfinished", seconds=self._settings.drain_seconds)

    def heard(self, node: GpuNode | None, *, listed: bool = False) -> None:
        """Take note of the GpuNode as the API server has it, None if it has none.

        An older state of it replaces a newer one only if it was *listed*: after a restore from a
        backup versions begin anew from there, and what was told since is lost.
        """
        known = self._gpu_node
        older = node is not None and known is not None and node.version < known.version
        if older and not listed:
            return
        untold = False
        if node is not None and listed:
            self._reporter.listed(node)
        elif node is not None:
            untold = self._reporter.heard(node)
        self._gpu_node = node
        if listed or untold or _plan_of(node) != _plan_of(known):
            self._due.set()

    async def converge(self) -> float:
        """Make one pass if there is a plan, and return in how many seconds the next is due.

        Raises:
            ApiError | DriverError | KubeletError: the pass could not be finished; make another.
        """
        if self._gpu_node is None:
            pause = self._settings.rescan_seconds
        else:
            pause = await self._passes.make(self._gpu_node)
        if self._draining and (self._gpu_node is None or self._passes.drained):
            self._drained.set()
        return pause

    async def _keep_converging(self) -> None:
        failures = 0
        while True:
            self._due.clear()
            try:
                pause = await self.converge()
                failures = 0
            except (ApiError, DriverError, KubeletError) as error:
                failures += 1
                pause = self._retry_in(error, failures)
                self._log.warning("pass_unfinished", error=str(error), retry_seconds=pause)
                # Not even for a new plan at once, while something is down.
                await asyncio.sleep(self._settings.first_retry_seconds)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._due.wait()

    async def _follow_plan(self) -> None:
        plans = self._publisher.follow()
        async with contextlib.aclosing(plans):
            async for heard in plans:
                self.heard(heard.node, listed=heard.listed)

    async def _keep_lease(self) -> None:
        every, failures = self._settings.lease_renew_seconds, 0
        while True:
            try:
                await self._publisher.renew_lease(
                    holder=self._epoch,
                    now=self._utc_now(),
                    duration_seconds=round(every * self._settings.lease_missed_renewals),
                )
                pause, failures = every, 0
            except ApiError as error:
                failures += 1
                self._log.warning("lease_not_renewed", error=str(error))
                pause = min(every, self._retry_in(error, failures))
            await asyncio.sleep(pause)

    def _retry_in(self, error: Exception, failures: int) -> float:
        """Return how long to wait after so many failures in a row.

        From a bound that doubles down to half of it, by chance: after the API server was away, all
        agents have failed together. What it asks for in Retry-After comes on top.
        """
        longest = self._settings.retry_after(failures)
        asked_for = error.retry_after if isinstance(error, ApiError) else 0.0
        return asked_for + longest * (1.0 - 0.5 * self._chance())


def _plan_of(node: GpuNode | None) -> tuple[str, int, str | None] | None:
    """Return what, when it changes, is a reason to look at once."""
    if node is None:
        return None
    known = node.metadata
    return known.uid, known.generation, known.annotations.get(keys.GPUS_ANNOTATION)
