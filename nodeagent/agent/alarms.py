"""Warning those whose pods are on a GPU that has been closed: they keep what they have there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime

import msgspec
import structlog

from nodeagent.api.gpunode import Assignment, PodRef, Realized
from nodeagent.apiserver.protocol import ApiError, Throttled, Unavailable
from nodeagent.driver import Host
from nodeagent.pod_events import PodEvents

log = structlog.get_logger()

REASON = "GpuQuarantined"
MOST_AT_ONCE = 16
"""So many pods are warned in one pass; the others in the next ones."""


class Alarm(msgspec.Struct, frozen=True):
    """What to warn a pod of."""

    pod: PodRef
    message: str


def alarms(
    plan: Iterable[Assignment], host: Host, *, realized: Iterable[Realized]
) -> tuple[Alarm, ...]:
    """Return what to warn the pods of that have something of the *plan* on an unhealthy GPU."""
    there = {each.id for each in realized}
    unhealthy = {gpu.uuid: gpu.unhealthy for gpu in host.gpus if gpu.unhealthy and not gpu.unready}
    return tuple(
        Alarm(each.pod, _message(each, each.pod, unhealthy[each.gpu]))
        for each in plan
        if each.pod is not None and each.id in there and each.gpu in unhealthy
    )


class Alarms:
    """Has each alarm told once for as long as it lasts, in a pass of its own *within* seconds.

    Nothing depends on it, so nothing that goes wrong here is raised. While the API server does not
    answer it is tried again in each pass.
    """

    def __init__(
        self, events: PodEvents, *, within: float, utc_now: Callable[[], datetime]
    ) -> None:
        self._events = events
        self._within = within
        self._utc_now = utc_now
        self._told: frozenset[Alarm] = frozenset()

    async def tell(self, now: Collection[Alarm]) -> None:
        """Warn of what has not been told of, out of all that there is to warn of *now*."""
        self._told &= set(now)
        owed = [each for each in now if each not in self._told][:MOST_AT_ONCE]
        if owed:
            self._told |= await self._tell(owed)

    async def _tell(self, owed: Sequence[Alarm]) -> frozenset[Alarm]:
        """Return those of which nothing is owed any more."""
        done: set[Alarm] = set()
        try:
            async with asyncio.timeout(self._within), asyncio.TaskGroup() as calls:
                for each in owed:
                    calls.create_task(self._one(each, done), name="alarm")
        except TimeoutError:
            log.warning("pods_not_warned", pods=len(owed) - len(done), seconds=self._within)
        return frozenset(done)

    async def _one(self, alarm: Alarm, done: set[Alarm]) -> None:
        try:
            await self._events.warn(alarm.pod, REASON, alarm.message, now=self._utc_now())
        except ApiError as error:
            again = isinstance(error, Throttled | Unavailable)
            log.warning("pod_not_warned", pod=alarm.pod.name, error=str(error), again=again)
            if again:
                return
        done.add(alarm)


def _message(assignment: Assignment, pod: PodRef, reason: str) -> str:
    last = assignment.start + assignment.size - 1
    return (
        f"GPU {assignment.gpu} takes nothing new: {reason}. It still holds {assignment.resource} of"
        f" pod {pod.name} (memory slices {assignment.start} to {last}), which may fail."
    )
