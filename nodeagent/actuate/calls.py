"""Calls that change a GPU: one at a time on each, and those that outlive the time they were given.

A driver's call blocks in a thread, and nobody can end it. One that is not answered in time goes on,
and nothing else happens on its GPU before it has ended: it may still create what it was asked for,
or destroy by an id that another GPU instance would have by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any, TypeVar

import structlog

from nodeagent.driver import DriverError, DriverTimeout

log = structlog.get_logger()

_T = TypeVar("_T")


class Calls:
    """The calls under way; *within* is the time given to each, in seconds."""

    def __init__(self, *, within: float) -> None:
        self._within = within
        self._late: dict[str, asyncio.Task[Any]] = {}

    @property
    def busy(self) -> frozenset[str]:
        """The GPUs with a late call that has not been forgotten."""
        return frozenset(self._late)

    async def make(self, gpu: str, name: str, call: Coroutine[Any, Any, _T]) -> _T:
        """Return the answer of the only call on *gpu*.

        Raises:
            DriverError: its answer; a DriverTimeout if there is none, and the call goes on.
        """
        task = asyncio.create_task(call, name=name)
        try:
            async with asyncio.timeout(self._within):
                return await asyncio.shield(task)
        except TimeoutError as error:
            self._late[gpu] = task
            task.add_done_callback(lambda _: _tell(gpu, name, task))
            raise DriverTimeout(name) from error
        except asyncio.CancelledError:
            task.cancel()  # the process ends, and its threads with it
            raise

    def ended(self) -> frozenset[str]:
        """Return the GPUs whose late call has ended, so that a look may show what it did."""
        return frozenset(gpu for gpu, task in self._late.items() if task.done())

    def answered(self, name: str) -> frozenset[str]:
        """Return those where it was a call of that *name*, and said what it did."""
        late = {gpu: self._late[gpu] for gpu in self.ended()}
        return frozenset(
            gpu for gpu, task in late.items() if task.get_name() == name and _answered(task)
        )

    def forget(self, gpus: Collection[str]) -> None:
        """Let *gpus* be used again."""
        for gpu in gpus:
            del self._late[gpu]

    def abandon(self) -> None:
        """Wait for none of them any longer."""
        for task in self._late.values():
            task.cancel()
        self._late.clear()


def _answered(task: asyncio.Task[Any]) -> bool:
    if task.cancelled():
        return False
    error = task.exception()
    return error is None or (
        isinstance(error, DriverError) and not isinstance(error, DriverTimeout)
    )


def _tell(gpu: str, name: str, task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        error = task.exception()
        log.warning("driver_call_ended_late", gpu=gpu, call=name, error=str(error or ""))
