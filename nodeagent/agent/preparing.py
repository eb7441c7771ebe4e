"""Making GPUs ready for GPU instances, where an administrator has asked for that.

MIG mode changes only with the GPU idle and by an explicit option; never on a GPU that is not ours,
is not healthy, or has GPU instances. What is still needed, such as a reset, is told as a condition.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import structlog

from nodeagent.api.gpunode import Layout
from nodeagent.driver import DriverError, DriverTimeout, LiveGpu

log = structlog.get_logger()

Prepare = Callable[[str], Awaitable[str]]
"""Makes the GPU of that UUID ready, and returns what is still needed for it, "" if nothing.

It may raise a :class:`DriverError`, such as for a GPU that is in use.
"""

CALL = "prepare"


class Preparing:
    """Tries each GPU again every so many *seconds*, by *prepare*, within so many, if at all."""

    def __init__(
        self,
        prepare: Prepare | None,
        *,
        seconds: float,
        within: float,
        clock: Callable[[], float],
    ) -> None:
        self._prepare = prepare
        self._seconds = seconds
        self._within = within
        self._clock = clock
        self._tried: dict[str, float] = {}
        self.needed: dict[str, str] = {}
        """What each GPU that is not ready still needs, by UUID."""

    async def prepare(self, gpus: Iterable[LiveGpu]) -> bool:
        """Make ready those of *gpus* whose turn it is; tell whether any may look otherwise now."""
        waiting = [gpu.uuid for gpu in gpus if _unprepared(gpu)]
        self.needed = {uuid: self.needed[uuid] for uuid in waiting if uuid in self.needed}
        if self._prepare is None:
            return False
        now = self._clock()
        due = [it for it in waiting if now - self._tried.get(it, float("-inf")) >= self._seconds]
        for uuid in due:
            self._tried[uuid] = now
            needed = await self._one(self._prepare, uuid)
            if needed:
                self.needed[uuid] = needed
            log.info("gpu_prepared", gpu=uuid, still_needed=needed)
        return bool(due)

    async def _one(self, prepare: Prepare, uuid: str) -> str:
        try:
            async with asyncio.timeout(self._within):
                return await prepare(uuid)
        except TimeoutError:
            return str(DriverTimeout(CALL))
        except DriverError as error:
            return str(error)


def _unprepared(gpu: LiveGpu) -> bool:
    return (
        gpu.layout is Layout.DYNAMIC
        and not gpu.mig_enabled
        and not gpu.unhealthy
        and bool(gpu.geometry.profiles)  # it may know no MIG
        and not gpu.instances
    )
