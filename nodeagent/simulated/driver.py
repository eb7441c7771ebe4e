"""A driver of simulated GPUs: the way to them, which may be slow, fail or lie."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from nodeagent.api.geometry import Placement
from nodeagent.driver import CREATE, DESTROY, Host, Purpose
from nodeagent.simulated.hardware import Hardware


class Call(msgspec.Struct, frozen=True):
    """One call of the driver before it took effect or (``done``) after, its answer unsent."""

    verb: str
    gpu: str = ""
    gi_id: int = -1
    done: bool = False
    profile_id: int = -1


class Pretended(Exception):
    """Raised before a call takes effect: it then does nothing and reports success."""


class CutShort(Exception):
    """Raised before a creation: it ends with *error* between the GPU instance and its device."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


class Delayed(Exception):
    """Raised before a call takes effect: it does so after *until*, whether or not anyone waits.

    As a call that blocks in a thread, or in the GPU, it survives whoever made it.
    """

    def __init__(self, until: asyncio.Event) -> None:
        super().__init__()
        self.until = until


Disturbance = Callable[[Call], Awaitable[None]]
"""What a test does to calls: raise a DriverError or one of the above, wait, or interfere."""


class SimulatedDriver:
    """A :class:`~nodeagent.driver.Driver` of *hardware*; ``disturbance`` is for tests."""

    def __init__(
        self,
        hardware: Hardware,
        *,
        create_seconds: float = 0.0,
        destroy_seconds: float = 0.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.disturbance: Disturbance | None = None
        self._hardware = hardware
        self._create_seconds = create_seconds
        self._destroy_seconds = destroy_seconds
        self._sleep = sleep
        self._delayed: set[asyncio.Task[int]] = set()
        self._listed = hardware.existing()
        self.changed: Callable[[], None] = lambda: None
        """Whom :meth:`watch` tells; for tests, which alone change simulated GPUs."""

    async def discover(self) -> Host:
        """Return everything as it is now."""
        await self._disturbed(Call("discover"))
        self._listed = self._hardware.existing()
        return self._hardware.host()

    async def create(
        self, gpu: str, profile_id: int, placement: Placement, purpose: Purpose | None = None
    ) -> int:
        """Create a GPU instance at exactly *placement* and return its id, if it can be believed."""
        await self._sleep(self._create_seconds)

        def effect() -> int:
            board = self._hardware.gpu(gpu, CREATE)
            gi_id = board.create(profile_id, placement)
            self._listed[gpu, gi_id] = board.instances[gi_id]
            return gi_id

        try:
            return await self._made(Call("create", gpu, profile_id=profile_id), effect)
        except CutShort as cut:
            self._hardware.gpu(gpu, CREATE).create(profile_id, placement, bare=True)
            raise cut.error from None

    async def destroy(self, gpu: str, gi_id: int) -> None:
        """Destroy a GPU instance that nobody uses, if it still is the one last listed."""
        await self._sleep(self._destroy_seconds)
        listed = self._listed.get((gpu, gi_id))

        def effect() -> int:
            self._hardware.gpu(gpu, DESTROY).destroy_listed(gi_id, listed)
            return gi_id

        await self._made(Call("destroy", gpu, gi_id), effect)

    async def watch(self, changed: Callable[[], None]) -> None:
        """Wait until cancelled: of simulated GPUs nobody but a test changes anything."""
        self.changed = changed
        await asyncio.Event().wait()

    async def _made(self, call: Call, effect: Callable[[], int]) -> int:
        """Make a call that changes a GPU, and return the id of the GPU instance."""
        try:
            await self._disturbed(call)
        except Pretended:
            return 0
        except Delayed as delayed:
            task = asyncio.create_task(_after(delayed.until, effect), name=f"delayed-{call.verb}")
            self._delayed.add(task)
            task.add_done_callback(self._delayed.discard)
            gi_id = await asyncio.shield(task)
        else:
            gi_id = effect()
        await self._disturbed(msgspec.structs.replace(call, gi_id=gi_id, done=True))
        return gi_id

    async def _disturbed(self, call: Call) -> None:
        if self.disturbance:
            await self.disturbance(call)


async def _after(event: asyncio.Event, effect: Callable[[], int]) -> int:
    await event.wait()
    return effect()
