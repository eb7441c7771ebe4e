"""Running for the lead: the loop around :mod:`~extender.service.leadership`."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable

import msgspec
import structlog

from extender.service.knowledge import Knowledge
from extender.service.leadership import Candidacy, Claim
from extender.service.memory import Memory
from extender.service.ports import ClusterUnavailable, LeaseLock, LeaseTaken, Signpost
from extender.settings import JITTER, LeaseTiming

log = structlog.get_logger()

SIGNPOST_EVERY_SECONDS = 30.0  # looked at again, lest a slip of somebody's hand hides the leader
RELEASE_TRIES = 3  # a renewal that was cut off may still be written in between


class Campaign:
    """Gives *knowledge* its tenure: while this process leads, and knows all that is there.

    *relist* returns once everything was listed anew: a predecessor's last writes are then known.
    *chance* draws from [0, 1). Through the Lease, *memory* passes from leader to leader.
    """

    def __init__(
        self,
        lock: LeaseLock,
        knowledge: Knowledge,
        *,
        identity: str,
        timing: LeaseTiming,
        relist: Callable[[], Awaitable[None]],
        signpost: Signpost | None = None,
        memory: Memory | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._lock = lock
        self._knowledge = knowledge
        self._relist = relist
        self._signpost = signpost
        self._memory = memory
        self._chance = chance
        self._candidacy = Candidacy(identity=identity, timing=timing)
        self._certain = False  # that the record known is the one to claim upon
        self._office: asyncio.Task[None] | None = None
        self._installed = False  # in office, after everything was listed anew
        self._released = asyncio.Event()

    async def run(self) -> None:
        """Run for the lead, and hold it for as long as can be, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hear_of_releases(), name="lease-releases")
            while True:
                await self._step()
                self._take_or_leave_office(tasks)
                await self._pause()
                self._take_or_leave_office(tasks)  # before a step that may take its time

    async def release(self) -> None:
        """Let another lead at once, if the Lease is ours; nothing may be written any more.

        Otherwise it is waited out, as after a crash.
        """
        for _ in range(RELEASE_TRIES):
            try:
                await self._look()
                claim = self._candidacy.release(now=self._now())
                if claim is not None:
                    claim = self._with_note(claim, last=True)
                    await self._lock.write(claim, timeout=self._timing.attempt_seconds)
                    log.info("lease_released")
            except LeaseTaken:
                continue
            except ClusterUnavailable as error:
                log.warning("lease_not_released", error=str(error))
            return

    @property
    def _timing(self) -> LeaseTiming:
        return self._candidacy.timing

    def _now(self) -> float:
        return self._knowledge.clock()

    async def _step(self) -> None:
        """Look at the Lease where need be, and claim it if it is to be had."""
        try:
            if not self._certain:
                await self._look()
            claim = self._candidacy.claim(now=self._now())
            if claim is not None:
                await self._claim(claim)
            self._certain = self._candidacy.leads(now=self._now())
        except LeaseTaken:
            self._certain = False
        except ClusterUnavailable as error:
            self._certain = False
            log.warning("lease_unreachable", error=str(error))

    async def _look(self) -> None:
        record = await self._lock.read(timeout=self._attempt_seconds())
        self._candidacy = self._candidacy.observe(record, now=self._now())
        self._knowledge.tenure.leader = record.holder if record else ""

    async def _claim(self, claim: Claim) -> None:
        claim = self._with_note(claim)
        sent = self._now()
        try:
            record = await self._lock.write(claim, timeout=self._attempt_seconds())
        except ClusterUnavailable:
            if self._memory is not None and claim.note is not None:
                self._memory.put_off()  # the lead is worth more than the note
            raise
        self._candidacy = self._candidacy.elected(record, sent=sent, now=self._now())
        if self._memory is not None and claim.note is not None:
            self._memory.kept(claim.note)
        self._knowledge.tenure.leader = record.holder
        if self._installed:
            self._knowledge.tenure.hold(until=self._candidacy.leads_until)

    def _with_note(self, claim: Claim, *, last: bool = False) -> Claim:
        """Return a claim with what the next leader is to know, if it is time to write that."""
        if self._memory is None or not self._installed:
            return claim
        note = self._memory.told() if last else self._memory.due()
        return msgspec.structs.replace(claim, note=note)

    def _attempt_seconds(self) -> float:
        """Return how long a request may take: a leader must hear of the end of its time."""
        now, longest = self._now(), self._timing.attempt_seconds
        if not self._candidacy.leads(now=now):
            return longest
        return min(longest, self._candidacy.leads_until - now)

    async def _pause(self) -> None:
        """Wait for the next step; for a release, or the end of the lead, no longer."""
        seconds = self._timing.retry_period_seconds * (1 + JITTER * self._chance())
        if self._candidacy.leads(now=self._now()):
            seconds = min(seconds, self._candidacy.leads_until - self._now())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._released.wait()
        self._released.clear()

    def _take_or_leave_office(self, tasks: asyncio.TaskGroup) -> None:
        leads = self._candidacy.leads(now=self._now())
        if leads and self._office is None:
            self._office = tasks.create_task(self._hold_office(), name="lead")
        elif self._office is not None and not leads:
            self._office.cancel()
            self._office = None
            self._installed = False
            self._knowledge.tenure.end()
            self._knowledge.end_term()
            log.warning("lead_lost", leader=self._knowledge.tenure.leader)

    async def _hear_of_releases(self) -> None:
        async with contextlib.aclosing(self._lock.releases()) as releases:
            async for _ in releases:
                self._released.set()

    async def _hold_office(self) -> None:
        log.info("elected", identity=self._candidacy.identity)
        await self._relist()
        if self._memory is not None and self._candidacy.record is not None:
            self._memory.recall(self._candidacy.record.note)
        self._installed = True
        self._knowledge.tenure.hold(until=self._candidacy.leads_until)
        self._knowledge.begin_term()
        log.info("leading", identity=self._candidacy.identity)
        while self._signpost is not None:
            pause = SIGNPOST_EVERY_SECONDS
            try:
                await self._signpost.point_here()
            except ClusterUnavailable as error:
                log.warning("signpost_postponed", error=str(error))
                pause = self._timing.retry_period_seconds
            await asyncio.sleep(pause)
