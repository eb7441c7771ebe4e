"""The one thread on which NVML runs, and what happens when a call does not come back."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import structlog

from nodeagent.driver import DriverBusy, DriverTimeout

log = structlog.get_logger()

T = TypeVar("T")

_Job = tuple[Callable[[], Any], "Future[Any]"]


class NvmlThread:
    """Runs one job after the other; one that takes more than *within* seconds is stuck.

    It cannot be stopped. Until it returns nothing else is even begun, on whatever GPU, for a second
    call may hang or make things worse. The thread is a daemon, so that a stuck job does not keep
    the process from ending.

    *in_flight* tells which call of the job is being made.
    """

    def __init__(self, *, within: float, in_flight: Callable[[], str] = lambda: "") -> None:
        self._within = within
        self._in_flight = in_flight
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._turn = asyncio.Lock()
        self._given_up: Future[Any] | None = None
        self._left: Future[Any] | None = None

    async def run(self, call: str, job: Callable[[], T], *, to_the_end: bool = False) -> T:
        """Return what *job* returns; *call* names it in errors.

        Where *to_the_end*, also that of a stuck job is waited for: what it answers in the end is
        the only way to know what became of it. How long to listen is then the caller's choice.

        Raises:
            DriverTimeout: the job is stuck.
            DriverBusy: an earlier one is; this one was not begun.
        """
        async with self._turn:
            answer = await self._begun(call, job)
        if not (answer.done() or to_the_end):
            raise DriverTimeout(call, detail=f"in {self._in_flight()}")
        return await asyncio.shield(answer)

    @contextlib.asynccontextmanager
    async def alone(self, call: str, job: Callable[[], object]) -> AsyncIterator[None]:
        """Run *job*, and nothing after it before the context is left: all others wait.

        Raises:
            DriverTimeout | DriverBusy: as :meth:`run` does; the context is not entered.
        """
        async with self._turn:
            answer = await self._begun(call, job)
            if not answer.done():
                raise DriverTimeout(call, detail=f"in {self._in_flight()}")
            answer.result()
            yield

    @property
    def stuck(self) -> bool:
        """Whether a job that was given up still runs."""
        return self._given_up is not None and not self._given_up.done()

    def stop(self) -> None:
        """End the thread once its job has returned; do not wait for that."""
        if self._thread:
            self._jobs.put(None)
            self._thread = None

    async def close(self) -> None:
        """Stop, after the job of a caller that has gone has had its time to return."""
        async with self._turn:
            await self._end_what_was_left()
        self.stop()

    async def _begun(self, call: str, job: Callable[[], T]) -> asyncio.Future[T]:
        """Return the answer of *job*, which is not done if the job is stuck."""
        await self._end_what_was_left()
        if self.stuck:
            raise DriverBusy(call, detail=f"{self._in_flight()} has not returned")
        future: Future[T] = Future()
        self._submit((job, future))
        answer = _awaitable(future)
        try:
            await asyncio.wait((answer,), timeout=self._within)
        except asyncio.CancelledError:
            self._left = future
            raise
        self._give_up_unless_done(future)
        return answer

    async def _end_what_was_left(self) -> None:
        """Let a job whose caller has gone return: it has its time all the same."""
        if self._left:
            await asyncio.wait((_awaitable(self._left),), timeout=self._within)
            self._give_up_unless_done(self._left)
            self._left = None

    def _submit(self, job: _Job) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="nvml", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def _give_up_unless_done(self, future: Future[Any]) -> None:
        if future.done():
            return
        call = self._in_flight()
        log.error("nvml_call_stuck", call=call)
        self._given_up = future
        future.add_done_callback(lambda _: log.info("nvml_call_returned", call=call))

    def _work(self) -> None:
        while entry := self._jobs.get():
            job, future = entry
            try:
                future.set_result(job())
            except BaseException as error:  # noqa: BLE001 - it is the caller's
                future.set_exception(error)


def _awaitable(future: Future[T]) -> asyncio.Future[T]:
    """Return *future* for the loop, which is not to complain of an error that nobody waits for."""
    answer = asyncio.wrap_future(future)
    answer.add_done_callback(lambda late: late.cancelled() or late.exception())
    return answer
