"""The driver of real GPUs: NVML behind :class:`nodeagent.driver.Driver`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Mode
from nodeagent.driver import CREATE, DESTROY, DISCOVER, GpuLost, Host, Purpose
from nodeagent.nvml import change, host
from nodeagent.nvml.gpu_instances import Described
from nodeagent.nvml.library import Location
from nodeagent.nvml.look import Look
from nodeagent.nvml.session import Nvml
from nodeagent.nvml.thread import NvmlThread

WITHIN_SECONDS = 45.0
"""A call that takes longer is stuck; the agent waits for ``Settings.driver_timeout_seconds``."""


class NvmlDriver:
    """A :class:`~nodeagent.driver.Driver` of this node's GPUs; enter it to have it closed.

    Only one may be open in a process, for pynvml has one library. *root* is where ``/proc`` and
    ``/sys`` are, *within* the seconds after which a call is stuck: a look then fails, and all other
    calls are refused until it returns, while a change answers once it has ended.
    """

    def __init__(
        self,
        location: Location,
        mode: Mode,
        *,
        root: Path = Path("/"),
        within: float = WITHIN_SECONDS,
    ) -> None:
        self._mode = mode
        self._root = root
        self._nvml = Nvml(location)
        self._thread = NvmlThread(within=within, in_flight=lambda: self._nvml.in_flight)
        self._look = Look(self._nvml, root)
        self._listed: dict[tuple[str, int], Described] = {}

    async def __aenter__(self) -> NvmlDriver:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Shut NVML down, unless a call that does not return forbids it."""
        if not self._thread.stuck:
            await self._thread.run("nvmlShutdown", self._nvml.close)
        self._thread.stop()

    async def discover(self) -> Host:
        """Return everything as it is now."""
        return await self._thread.run(DISCOVER, self._discover)

    async def create(
        self, gpu: str, profile_id: int, placement: Placement, purpose: Purpose | None = None
    ) -> int:
        """Create a GPU instance at exactly *placement* and return its id, however late."""
        return await self._thread.run(
            CREATE, lambda: self._create(gpu, profile_id, placement), to_the_end=True
        )

    async def destroy(self, gpu: str, gi_id: int) -> None:
        """Destroy a GPU instance that nobody uses, if it is the one last listed under that id."""
        await self._thread.run(DESTROY, lambda: self._destroy(gpu, gi_id), to_the_end=True)

    async def watch(self, changed: Callable[[], None]) -> None:
        """Wait until cancelled."""
        await asyncio.Event().wait()

    # -- on the thread -----------------------------------------------------------------------------

    def _discover(self) -> Host:
        self._nvml.open()
        found = Host(
            boot_id=host.boot_id(self._root),
            driver=self._nvml.driver_version(),
            mode=self._mode,
            gpus=self._look.gpus(),
        )
        self._listed = {
            (gpu.uuid, each.gi_id): Described(each.gi_id, each.profile_id, each.placement)
            for gpu in found.gpus
            for each in gpu.instances
        }
        return found

    def _create(self, gpu: str, profile_id: int, placement: Placement) -> int:
        self._nvml.open()
        if gpu not in self._look.seen:
            raise GpuLost(CREATE)
        # Containers need a compute instance; a vGPU brings its own.
        geometry = self._look.seen[gpu].geometry if self._mode is Mode.CONTAINER else None
        made = change.create(self._nvml, gpu, profile_id, placement, full=geometry)
        self._listed[gpu, made.gi_id] = made
        return made.gi_id

    def _destroy(self, gpu: str, gi_id: int) -> None:
        self._nvml.open()
        change.destroy(self._nvml, gpu, gi_id, listed=self._listed.get((gpu, gi_id)))
        self._listed.pop((gpu, gi_id), None)
