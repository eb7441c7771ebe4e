"""What lies between an agent and its GPUs: calls that take time, fail, lie, and outlive the agent.

A call that was begun goes on when the agent is killed, as one in the kernel does, and the node
starts no other agent before it has ended.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from nodeagent.api.geometry import Placement
from nodeagent.driver import CREATE, DESTROY, DriverError, Host, LiveInstance, Purpose
from nodeagent.journal import JournalError, Kept, Made
from nodeagent.simulated.hardware import Hardware
from tests.chaos.loop import SeededLoop

_T = TypeVar("_T")
CALL_SECONDS = 0.2  # to create or destroy a GPU instance with its device
UNKNOWN = 999


class Witness(Protocol):
    """Who sees what agents do to GPUs, at the moment they do it."""

    def looked(self, node: str) -> None:
        """An agent has just seen what is on the GPUs of its node."""

    def created(self, node: str, gpu: str, gi_id: int) -> None:
        """A GPU instance came to be."""

    def half_made(self, gpu: str, gi_id: int) -> None:
        """The agent is told that this GPU instance could not be made, whatever there is of it."""

    def destroying(self, node: str, gpu: str, gi_id: int) -> None:
        """A GPU instance is about to be destroyed, or would be were it not in use."""


class Board:
    """A node's GPUs as its agents reach them; ``rough`` is how likely a call is to fail.

    While they are ``broken``, no instance can be created on any of them.
    """

    def __init__(
        self, loop: SeededLoop, hardware: Hardware, chance: random.Random, witness: Witness
    ) -> None:
        self.rough = 0.0
        self.broken = False
        self._loop = loop
        self._hardware = hardware
        self._chance = chance
        self._witness = witness
        self._calls: set[asyncio.Task[Any]] = set()
        self._listed = hardware.existing()

    async def idle(self) -> None:
        """Wait until no call is under way."""
        while self._calls:
            await asyncio.wait(self._calls)

    def power_off(self) -> None:
        """End every call, as a reboot does."""
        for call in self._calls:
            call.cancel()

    async def discover(self) -> Host:
        """Return everything as it is now."""
        await asyncio.sleep(0.01 * self._chance.random())
        if self._failed():
            raise DriverError("nvmlDeviceGetGpuInstances", code=UNKNOWN)
        self._witness.looked(self._hardware.node)
        self._listed = self._hardware.existing()
        return self._hardware.host()

    async def create(
        self, gpu: str, profile_id: int, placement: Placement, purpose: Purpose | None = None
    ) -> int:
        """Create a GPU instance; an error may come before, in the middle, or after."""
        return await self._made(self._create(gpu, profile_id, placement))

    async def destroy(self, gpu: str, gi_id: int) -> None:
        """Destroy a GPU instance, if it still is the one last listed."""
        await self._made(self._destroy(gpu, gi_id, self._listed.get((gpu, gi_id))))

    async def watch(self, changed: Callable[[], None]) -> None:
        """Tell nothing: an agent finds out when it next looks."""
        await asyncio.Event().wait()

    async def _create(self, gpu: str, profile_id: int, placement: Placement) -> int:
        await asyncio.sleep(CALL_SECONDS * self._chance.random())
        if self.broken or self._failed():
            raise DriverError(CREATE, code=UNKNOWN)
        if self._failed():
            return 1  # reported, and not done
        bare = self._failed()
        board = self._hardware.gpu(gpu, CREATE)
        gi_id = board.create(profile_id, placement, bare=bare)
        self._listed[gpu, gi_id] = board.instances[gi_id]
        self._witness.created(self._hardware.node, gpu, gi_id)
        await asyncio.sleep(CALL_SECONDS * self._chance.random())
        if bare or self._failed():
            self._witness.half_made(gpu, gi_id)
            raise DriverError(CREATE, code=UNKNOWN)
        return gi_id

    async def _destroy(self, gpu: str, gi_id: int, listed: LiveInstance | None) -> None:
        await asyncio.sleep(CALL_SECONDS * self._chance.random())
        if self._failed():
            raise DriverError(DESTROY, code=UNKNOWN)
        board = self._hardware.gpu(gpu, DESTROY)
        if board.instances.get(gi_id) == listed:
            self._witness.destroying(self._hardware.node, gpu, gi_id)
        board.destroy_listed(gi_id, listed)
        if self._failed():
            raise DriverError(DESTROY, code=UNKNOWN)

    async def _made(self, call: Coroutine[Any, Any, _T]) -> _T:
        task = self._loop.spawn_outside(call)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard, context=self._loop.world)
        return await asyncio.shield(task)

    def _failed(self) -> bool:
        return bool(self.rough) and self._chance.random() < self.rough


class Disk:
    """A :class:`~nodeagent.journal.Journal` that outlives agents; a save takes effect or not."""

    def __init__(self, chance: random.Random) -> None:
        self.rough = 0.0
        self.damage = ""
        self.made: tuple[Made, ...] = ()
        self.kept = Kept()
        self._chance = chance

    async def load(self) -> None:
        """There is nothing to read: it is here."""

    async def save(self, made: tuple[Made, ...]) -> None:
        """Save *made*; a process killed meanwhile may have saved it, or not."""
        if made != self.made:
            await self._begun()
            self.made = made
            await self._a_moment()

    async def keep(self, kept: Kept) -> None:
        """Keep what is told, in the same way."""
        await self._begun()
        self.kept = kept
        await self._a_moment()

    async def _begun(self) -> None:
        await self._a_moment()
        if self.rough and self._chance.random() < self.rough:
            raise JournalError("no space left on device")

    async def _a_moment(self) -> None:
        await asyncio.sleep(0.005 * self._chance.random())
