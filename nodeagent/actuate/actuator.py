"""Calling the driver and the journal, in the one order that is safe.

One pass over a node destroys what must go, looks, creates what is wanted, and looks again. The
journal learns of a GPU instance before it is made, and forgets it only once it was seen gone::

    look ─▶ adopt ─▶ destroy ─▶ look ─▶ journal ─▶ create ─▶ look ─▶ journal

A look follows every change because drivers have reported successes that were none. Only a look that
finds a placement empty lets a new one be journalled there, so what is found there later is it.

A creation without an answer may still come to be. The journal says so, across restarts, until its
GPU instance is seen, its call has ended after all, or the node reboots; until then nothing else is
created on its GPU.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any

import msgspec
import structlog

from nodeagent.actuate.calls import Calls
from nodeagent.actuate.intent import Intent, Outcome
from nodeagent.actuate.work import Work
from nodeagent.api.gpunode import Mode
from nodeagent.driver import (
    CREATE,
    DESTROY,
    DISCOVER,
    Driver,
    DriverError,
    DriverTimeout,
    GivingWay,
    Host,
    InvalidPlacement,
    MigDisabled,
    NoSuchInstance,
    PlacementUnavailable,
    Purpose,
    RivalCandidate,
    StillLeaving,
)
from nodeagent.journal import Journal, JournalError, Made
from nodeagent.reconcile import Create, Destroy

log = structlog.get_logger()

_CERTAINLY_NOT_MADE = (
    GivingWay,
    InvalidPlacement,
    MigDisabled,
    PlacementUnavailable,
    RivalCandidate,
)


class Actuator:
    """Brings about what is intended, through a driver; *within* is each call's time in seconds.

    *clock* counts seconds, for the log.
    """

    def __init__(
        self,
        driver: Driver,
        journal: Journal,
        *,
        within: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._driver = driver
        self._journal = journal
        self._within = within
        self._calls = Calls(within=within)

    async def look(self) -> Host:
        """Return all GPUs as they are now.

        Raises:
            DriverError: nothing can be said about any GPU.
        """
        await self._settled(self._journal.made)
        return await self._look()

    def abandon(self) -> None:
        """Wait no longer for late calls; the journal knows what may still come of them."""
        self._calls.abandon()

    async def converge(
        self,
        host: Host,
        intent: Intent,
        *,
        looked: Callable[[Host], Awaitable[None]] | None = None,
    ) -> Outcome:
        """Bring about *intent*, starting from what :meth:`look` has just returned.

        *looked* is told what there is once destroying has taken its time, before anything is made.

        Raises:
            DriverError: as :meth:`look` does; what was done so far is safe, and found next time.
            KubeletError: as *looked* does; likewise.
        """
        await self._adopt(intent.adopted)
        work = Work(host, intent, self._journal.made, busy=self._calls.busy)
        for each in self._journal.made:
            if each.boot_id == host.boot_id and each.assignment not in work.known:
                # Destroyed by somebody, by a GPU reset, or just before we were killed.
                log.warning("gpu_instance_not_there", gpu=each.gpu, assignment=each.assignment)
        destructions, saved = work.destructions(), True
        if destructions:
            await self._on_each_gpu(
                [self._destroy_all(work, gpu, todo) for gpu, todo in destructions.items()]
            )
            host = await self._look()
            work.look_again(host, busy=self._calls.busy)
            work.give_up_destroying()
            # First what is ours no more: the pass may end here, and somebody make the same there.
            saved = await self._saved(work.made)
            if saved and looked is not None:
                await looked(host)
        creations = work.creations()
        intended = work.with_intended(creations)
        if not saved or not await self._saved(intended):
            work.give_up(creations, "the journal cannot be written")
        elif creations:
            work.made = intended
            await self._on_each_gpu(
                [self._create_all(work, gpu, todo) for gpu, todo in creations.items()]
            )
            if any(each.unanswered for each in work.made):
                await self._saved(work.made)  # at once: the look may fail, or the process end
                # A process that was stopped for a while hears "too late" and the answer together.
                work.made = await self._settled(work.made)
            work.look_again(await self._look(), busy=self._calls.busy)
            work.verify(creations)
            await self._saved(work.made)
        return work.outcome()

    async def _look(self) -> Host:
        try:
            async with asyncio.timeout(self._within):
                return await self._driver.discover()
        except TimeoutError as error:
            raise DriverTimeout(DISCOVER) from error

    async def _settled(self, made: tuple[Made, ...]) -> tuple[Made, ...]:
        """Take note of late calls that have ended, and return what was *made* as it is then known.

        This comes before a look, for a look begun earlier may not show what they did.
        """
        ended, answered = self._calls.ended(), self._calls.answered(CREATE)
        known = tuple(
            msgspec.structs.replace(each, unanswered=each.unanswered and each.gpu not in answered)
            for each in made
        )
        if not await self._saved(known):
            return made
        self._calls.forget(ended)
        return known

    async def _on_each_gpu(self, jobs: Iterable[Coroutine[Any, Any, None]]) -> None:
        """Work on the GPUs side by side; on each of them one thing happens after the other."""
        async with asyncio.TaskGroup() as tasks:
            for job in jobs:
                tasks.create_task(job, name="actuate-gpu")

    async def _adopt(self, adopted: Sequence[Made]) -> None:
        """Have the journal call *adopted* ours; while it cannot be written, they stay foreign."""
        places = {(each.gpu, each.placement) for each in adopted}
        others = (it for it in self._journal.made if (it.gpu, it.placement) not in places)
        if adopted and await self._saved((*others, *adopted)):
            for each in adopted:
                log.info(
                    "gpu_instance_adopted",
                    gpu=each.gpu,
                    assignment=each.assignment,
                    profile_id=each.profile_id,
                    start=each.placement.start,
                    size=each.placement.size,
                )

    async def _destroy_all(self, work: Work, gpu: str, todo: Sequence[Destroy]) -> None:
        for step in todo:
            told = log.bind(gpu=gpu, assignment=step.assignment, gi_id=step.gi_id)
            began = self._clock()
            try:
                await self._calls.make(gpu, DESTROY, self._driver.destroy(gpu, step.gi_id))
            except NoSuchInstance:
                work.destroyed(gpu, step)  # somebody else was faster
            except DriverError as error:
                work.stuck[gpu, step.gi_id] = str(error)
                if isinstance(error, StillLeaving):
                    told.info("gpu_instance_leaving", reason=error.detail)
                else:
                    told.warning("gpu_instance_not_destroyed", error=str(error))
                if isinstance(error, DriverTimeout):
                    return
            else:
                work.destroyed(gpu, step)
                told.info("gpu_instance_destroyed", seconds=self._since(began))

    async def _create_all(self, work: Work, gpu: str, todo: Sequence[Create]) -> None:
        closed: set[int] = set()
        for n, step in enumerate(todo):
            if step.profile_id in closed:
                work.put_off(gpu, [step])
                continue
            told = log.bind(
                gpu=gpu,
                assignment=step.assignment,
                uid=work.pod_of(step.assignment),
                profile_id=step.profile_id,
                start=step.placement.start,
                size=step.placement.size,
            )
            began = self._clock()
            try:
                gi_id = await self._calls.make(
                    gpu,
                    CREATE,
                    self._driver.create(
                        gpu,
                        step.profile_id,
                        step.placement,
                        Purpose(step.assignment, step.resource),
                    ),
                )
            except DriverError as error:
                work.failures[step.assignment] = str(error)
                seconds = self._since(began)
                told.warning("gpu_instance_not_created", error=str(error), seconds=seconds)
                if isinstance(error, _CERTAINLY_NOT_MADE):
                    work.not_ours(gpu, step)
                elif isinstance(error, DriverTimeout):
                    work.unanswered(gpu, step)
                    work.leave_out(gpu, todo[n + 1 :], str(error))
                    return
                else:
                    # What it may have left behind would take the vGPU of the next of its profile.
                    closed.add(step.profile_id)
            else:
                told.info("gpu_instance_created", gi_id=gi_id, seconds=self._since(began))
                if work.host.mode is Mode.HARVESTER:
                    closed.add(step.profile_id)  # its vGPU comes later, and before any other

    def _since(self, began: float) -> float:
        return round(self._clock() - began, 6)

    async def _saved(self, made: tuple[Made, ...]) -> bool:
        if made == self._journal.made:
            return True
        try:
            await self._journal.save(made)
        except JournalError as error:
            log.error("journal_not_written", error=str(error))
            return False
        return True
