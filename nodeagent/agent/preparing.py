"""Making GPUs ready for GPU instances, where an administrator has asked for that.

MIG mode and virtual functions change only on an idle GPU and by an explicit option; never on one
that is not ours, is not healthy, or has GPU instances, which it would lose. What is still needed,
such as a reset, is told as a condition.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from nodeagent.api.gpunode import Layout
from nodeagent.driver import SRIOV_DISABLED, DriverError, DriverTimeout, LiveGpu

log = structlog.get_logger()

Prepare = Callable[[LiveGpu], Awaitable[str]]
"""Makes an idle GPU ready, and returns what is still needed for it, "" if nothing.

It may raise a :class:`DriverError`. On a GPU that is ready it does nothing.
"""

CALL = "prepare the GPU"


class Preparing:
    """Has *prepare*, if there is any, make GPUs ready.

    One that is not ready yet is tried again every so many *seconds*; each try has so many *within*.
    """

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
        self._ready: frozenset[str] = frozenset()
        self._tried: dict[str, float] = {}
        self.needed: dict[str, str] = {}
        """What each GPU that is not ready still needs, by UUID."""

    async def prepare(self, gpus: Sequence[LiveGpu]) -> bool:
        """Make ready those of *gpus* whose turn it is; tell whether any may look otherwise now."""
        if self._prepare is None:
            return False
        # One that was reset, or was away, may have lost what it had.
        self._ready &= {gpu.uuid for gpu in gpus if gpu.mig_enabled and _well(gpu)}
        waiting = [gpu for gpu in gpus if _idle(gpu) and gpu.uuid not in self._ready]
        names = {gpu.uuid for gpu in waiting}
        self.needed = {uuid: what for uuid, what in self.needed.items() if uuid in names}
        now, never = self._clock(), float("-inf")
        due = [it for it in waiting if now - self._tried.get(it.uuid, never) >= self._seconds]
        for gpu in due:
            self._tried[gpu.uuid] = now
            needed = await self._one(self._prepare, gpu)
            if needed:
                self.needed[gpu.uuid] = needed
                log.warning("gpu_not_prepared", gpu=gpu.uuid, needed=needed)
            else:
                self._ready |= {gpu.uuid}
                self.needed.pop(gpu.uuid, None)
                log.info("gpu_prepared", gpu=gpu.uuid)
        return bool(due)

    async def _one(self, prepare: Prepare, gpu: LiveGpu) -> str:
        try:
            async with asyncio.timeout(self._within):
                return await prepare(gpu)
        except TimeoutError:
            return str(DriverTimeout(CALL))
        except DriverError as error:
            return str(error)


def _idle(gpu: LiveGpu) -> bool:
    """Tell whether *gpu* is ours, well, knows MIG, and holds nothing."""
    return (
        gpu.layout is Layout.DYNAMIC
        and _well(gpu)
        and bool(gpu.geometry.profiles)
        and not gpu.instances
    )


def _well(gpu: LiveGpu) -> bool:
    """Tell whether nothing is wrong with *gpu* but what is to be prepared."""
    return gpu.unhealthy in ("", SRIOV_DISABLED)
