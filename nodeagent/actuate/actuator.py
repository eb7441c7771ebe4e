"""Calling the driver and the journal, in the one order that is safe.

One pass over a node destroys what must go, looks, creates what is wanted, and looks again. The
journal learns of a GPU instance before it is made, and forgets it only once it was seen gone::

    look ─▶ destroy ─▶ look ─▶ journal ─▶ create ─▶ look ─▶ journal

A look follows every change because drivers have reported successes that were none. Only a look that
finds a placement empty lets a new one be journalled there, so what is found there later is it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from typing import Any

import structlog

from nodeagent.actuate.work import Intent, Outcome, Work
from nodeagent.driver import (
    CREATE,
    DESTROY,
    DISCOVER,
    Driver,
    DriverError,
    DriverTimeout,
    Host,
    InvalidPlacement,
    MigDisabled,
    NoSuchInstance,
    PlacementUnavailable,
)
from nodeagent.journal import Journal, JournalError, Made
from nodeagent.reconcile import Create, Destroy

log = structlog.get_logger()

_CERTAINLY_NOT_MADE = (InvalidPlacement, MigDisabled, PlacementUnavailable)


class Actuator:
    """Brings about what is intended, through a driver; *within* is each call's time in seconds."""

    def __init__(self, driver: Driver, journal: Journal, *, within: float) -> None:
        self._driver = driver
        self._journal = journal
        self._within = within

    async def look(self) -> Host:
        """Return all GPUs as they are now.

        Raises:
            DriverError: nothing can be said about any GPU.
        """
        async with _deadline(self._within, DISCOVER):
            return await self._driver.discover()

    async def converge(self, host: Host, intent: Intent) -> Outcome:
        """Bring about *intent*, starting from what :meth:`look` has just returned.

        Raises:
            DriverError: as :meth:`look` does; what was done so far is safe, and found next time.
        """
        work = Work(host, intent, self._journal.made)
        destructions = work.destructions()
        if destructions:
            await self._on_each_gpu(
                [self._destroy_all(work, gpu, todo) for gpu, todo in destructions.items()]
            )
            work.look_again(await self.look())
            work.give_up_destroying()
        creations = work.creations()
        intended = work.with_intended(creations)
        if not await self._saved(intended):
            work.give_up(creations, "the journal cannot be written")
        elif creations:
            work.made = intended
            await self._on_each_gpu(
                [self._create_all(work, gpu, todo) for gpu, todo in creations.items()]
            )
            work.look_again(await self.look())
            work.verify(creations)
            await self._saved(work.made)
        return work.outcome()

    async def _on_each_gpu(self, jobs: Iterable[Coroutine[Any, Any, None]]) -> None:
        """Work on the GPUs side by side; on each of them one thing happens after the other."""
        async with asyncio.TaskGroup() as tasks:
            for job in jobs:
                tasks.create_task(job, name="actuate-gpu")

    async def _destroy_all(self, work: Work, gpu: str, todo: Sequence[Destroy]) -> None:
        for step in todo:
            told = log.bind(gpu=gpu, assignment=step.assignment, gi_id=step.gi_id)
            try:
                async with _deadline(self._within, DESTROY):
                    await self._driver.destroy(gpu, step.gi_id)
            except NoSuchInstance:
                continue  # somebody else was faster
            except DriverError as error:
                work.stuck[gpu, step.gi_id] = str(error)
                told.warning("gpu_instance_not_destroyed", error=str(error))
            else:
                told.info("gpu_instance_destroyed")

    async def _create_all(self, work: Work, gpu: str, todo: Sequence[Create]) -> None:
        for step in todo:
            told = log.bind(
                gpu=gpu,
                assignment=step.assignment,
                profile_id=step.profile_id,
                start=step.placement.start,
                size=step.placement.size,
            )
            try:
                async with _deadline(self._within, CREATE):
                    gi_id = await self._driver.create(gpu, step.profile_id, step.placement)
            except DriverError as error:
                work.failures[step.assignment] = str(error)
                if isinstance(error, _CERTAINLY_NOT_MADE):
                    work.not_ours(step.assignment)
                told.warning("gpu_instance_not_created", error=str(error))
            else:
                told.info("gpu_instance_created", gi_id=gi_id)

    async def _saved(self, made: tuple[Made, ...]) -> bool:
        if made == self._journal.made:
            return True
        try:
            await self._journal.save(made)
        except JournalError as error:
            log.error("journal_not_written", error=str(error))
            return False
        return True


@contextlib.asynccontextmanager
async def _deadline(seconds: float, call: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise DriverTimeout(call) from error
