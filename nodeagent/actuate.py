"""Performing the steps: too dull to be wrong.

One pass over a node destroys what must go, looks, creates what is wanted, and looks again. The
journal learns of an instance before it is made and forgets it only after it was seen to be gone::

    look ─▶ destroy ─▶ look ─▶ journal ─▶ create ─▶ look ─▶ journal

A look follows every change because drivers have reported successes that were none. Only a look that
finds a placement empty lets a new instance be journalled there, so what is found there later is it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import (
    AsyncIterator,
    Collection,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any, Protocol, TypeVar

import msgspec
import structlog

from nodeagent.api.gpunode import Assignment
from nodeagent.driver import (
    CREATE,
    DESTROY,
    DISCOVER,
    Driver,
    DriverError,
    DriverTimeout,
    Host,
    InvalidPlacement,
    LiveGpu,
    MigDisabled,
    NoSuchInstance,
    PlacementUnavailable,
)
from nodeagent.reconcile import (
    Blocked,
    Create,
    Destroy,
    Impossible,
    Made,
    Observed,
    Step,
    Wanted,
    closed,
    observe,
    refusal,
    remembered,
    steps,
)

log = structlog.get_logger()

_Step = TypeVar("_Step", Destroy, Create)

_NOT_THERE = f"{CREATE}: reported success, but the GPU instance is not there"
_CERTAINLY_NOT_MADE = (InvalidPlacement, MigDisabled, PlacementUnavailable)


class JournalError(Exception):
    """The journal could not be written."""


class Journal(Protocol):
    """What we made, or are about to make, kept where a crash cannot reach it."""

    @property
    def made(self) -> tuple[Made, ...]:
        """Return what was saved last."""

    async def save(self, made: tuple[Made, ...]) -> None:
        """Save *made*, durably once this returns.

        Raises:
            JournalError: it may or may not have been saved.
        """


class Intent(msgspec.Struct, frozen=True):
    """What a pass shall bring about.

    ``claimed`` assignments keep their instance whatever the plan says; for ``postponed`` ones
    nothing is created this time; ``lost`` ones are over and get no instance again.
    """

    plan: Sequence[Assignment]
    claimed: Collection[str] = ()
    postponed: Collection[str] = ()
    lost: Collection[str] = ()


class Outcome(msgspec.Struct, frozen=True):
    """What a pass came to.

    ``impossible`` follows from what is and what is planned; ``failures`` are creations the driver
    (or the journal) refused, which may succeed later. ``blocked`` counts instances that should go.
    """

    host: Host
    observed: Mapping[str, tuple[Observed, ...]]
    live: frozenset[str]
    impossible: Mapping[str, str]
    failures: Mapping[str, str]
    blocked: int


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
        work = _Work(host, intent, remembered(self._journal.made, host))
        destructions = work.destructions()
        if destructions:
            await self._on_each_gpu(
                [self._destroy_all(work, gpu, todo) for gpu, todo in destructions.items()]
            )
            work.look_again(await self.look())
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

    async def _destroy_all(self, work: _Work, gpu: str, todo: Sequence[Destroy]) -> None:
        for step in todo:
            try:
                async with _deadline(self._within, DESTROY):
                    await self._driver.destroy(gpu, step.gi_id)
            except NoSuchInstance:
                continue  # somebody else was faster
            except DriverError as error:
                work.stuck[gpu, step.gi_id] = str(error)
                log.warning("gpu_instance_not_destroyed", gpu=gpu, step=step, error=str(error))
            else:
                log.info("gpu_instance_destroyed", gpu=gpu, assignment=step.assignment)

    async def _create_all(self, work: _Work, gpu: str, todo: Sequence[Create]) -> None:
        for step in todo:
            try:
                async with _deadline(self._within, CREATE):
                    await self._driver.create(gpu, step.profile_id, step.placement)
            except DriverError as error:
                work.failures[step.assignment] = str(error)
                if isinstance(error, _CERTAINLY_NOT_MADE):
                    work.not_ours(step.assignment)
                log.warning("gpu_instance_not_created", gpu=gpu, step=step, error=str(error))
            else:
                log.info("gpu_instance_created", gpu=gpu, step=step)

    async def _saved(self, made: tuple[Made, ...]) -> bool:
        if made == self._journal.made:
            return True
        try:
            await self._journal.save(made)
        except JournalError as error:
            log.error("journal_not_written", error=str(error))
            return False
        return True


class _Work:
    """How far one pass has come."""

    def __init__(self, host: Host, intent: Intent, made: tuple[Made, ...]) -> None:
        self.host = host
        self.made = made
        self.stuck: dict[tuple[str, int], str] = {}
        self.failures: dict[str, str] = {}
        self._intent = intent
        self._refused = {
            each.id: reason for each in intent.plan if each.pod and (reason := refusal(each, host))
        }

    def destructions(self) -> dict[str, list[Destroy]]:
        """Return what to destroy on each GPU."""
        return self._todo(Destroy)

    def creations(self) -> dict[str, list[Create]]:
        """Return what to create on each GPU this time."""
        return {
            gpu: now
            for gpu, todo in self._todo(Create).items()
            if (now := [step for step in todo if step.assignment not in self._intent.postponed])
        }

    def with_intended(self, creations: Mapping[str, Sequence[Create]]) -> tuple[Made, ...]:
        """Return what the journal must hold before these creations."""
        intended = (
            Made(step.assignment, gpu, step.profile_id, step.placement, self.host.boot_id)
            for gpu, todo in creations.items()
            for step in todo
        )
        return tuple(dict.fromkeys((*self.made, *intended)))

    def not_ours(self, assignment: str) -> None:
        """Forget what was journalled for a creation that certainly made nothing."""
        self.made = tuple(each for each in self.made if each.assignment != assignment)

    def look_again(self, host: Host) -> None:
        """Go on from what is on the node now."""
        self.host = host
        self.made = remembered(self.made, host)

    def give_up(self, creations: Mapping[str, Sequence[Create]], reason: str) -> None:
        """Report creations that were not even tried."""
        self.failures |= {s.assignment: reason for todo in creations.values() for s in todo}

    def verify(self, creations: Mapping[str, Sequence[Create]]) -> None:
        """Judge the creations by what exists, not by what the driver said of them."""
        live = self.live()
        for step in (step for todo in creations.values() for step in todo):
            if step.assignment in live:
                self.failures.pop(step.assignment, None)
            else:
                self.failures.setdefault(step.assignment, _NOT_THERE)

    def live(self) -> frozenset[str]:
        """Return the assignments whose instance exists as planned."""
        return frozenset(
            instance.assignment
            for gpu in self.host.gpus
            for instance in self._observed(gpu)
            if self._desired(gpu).get(instance.assignment)
            == Wanted(instance.profile_id, instance.placement)
        )

    def outcome(self) -> Outcome:
        """Return what the pass came to."""
        left = [step for gpu in self.host.gpus for step in self._steps(gpu)]
        impossible = {s.assignment: s.reason for s in left if isinstance(s, Impossible)}
        return Outcome(
            host=self.host,
            observed={gpu.uuid: self._observed(gpu) for gpu in self.host.gpus},
            live=self.live(),
            impossible=self._refused | impossible,
            failures=self.failures,
            blocked=sum(isinstance(step, Blocked | Destroy) for step in left),
        )

    def _todo(self, kind: type[_Step]) -> dict[str, list[_Step]]:
        found = {
            gpu.uuid: [step for step in self._steps(gpu) if isinstance(step, kind)]
            for gpu in self.host.gpus
        }
        return {gpu: todo for gpu, todo in found.items() if todo}

    def _steps(self, gpu: LiveGpu) -> Iterator[Step]:
        return steps(self._observed(gpu), self._desired(gpu), closed=closed(gpu))

    def _observed(self, gpu: LiveGpu) -> tuple[Observed, ...]:
        return observe(
            gpu,
            self.made,
            boot_id=self.host.boot_id,
            claimed=self._intent.claimed,
            stuck={gi_id: why for (uuid, gi_id), why in self.stuck.items() if uuid == gpu.uuid},
        )

    def _desired(self, gpu: LiveGpu) -> dict[str, Wanted]:
        return {
            each.id: Wanted(each.profile_id, each.placement)
            for each in self._intent.plan
            if each.gpu == gpu.uuid
            and each.pod is not None
            and each.id not in self._refused
            and each.id not in self._intent.lost
        }


@contextlib.asynccontextmanager
async def _deadline(seconds: float, call: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise DriverTimeout(call) from error
