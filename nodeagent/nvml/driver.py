"""The driver of real GPUs: NVML behind :class:`nodeagent.driver.Driver`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

import structlog

from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Mode
from nodeagent.driver import (
    CREATE,
    DESTROY,
    DISCOVER,
    DriverError,
    GivingWay,
    GpuLost,
    Host,
    Purpose,
)
from nodeagent.nvml import change, events, host, mode
from nodeagent.nvml.events import APPLICATION_XIDS, Event
from nodeagent.nvml.gpu_instances import Described
from nodeagent.nvml.library import Location
from nodeagent.nvml.look import Look
from nodeagent.nvml.mode import ENABLE_MIG
from nodeagent.nvml.quarantine import Quarantine
from nodeagent.nvml.session import Nvml
from nodeagent.nvml.thread import NvmlThread

log = structlog.get_logger()

WITHIN_SECONDS = 45.0
"""A call that takes longer is stuck; the agent waits for ``Settings.driver_timeout_seconds``."""

LISTEN = "nvmlEventSetWait_v2"
SHUTDOWN = "nvmlShutdown"


class NvmlDriver:
    """A :class:`~nodeagent.driver.Driver` of this node's GPUs; enter it to have it closed.

    Only one may be open in a process, for pynvml has one library, whose *location* may move. *root*
    is where ``/proc``, ``/sys`` and ``/dev`` are, *within* the seconds after which a call is stuck:
    a look then fails, and all other calls are refused until it returns, while a change answers once
    it has ended.
    Events are asked for each *listen_every* seconds, and after an error not for *retry_after*;
    *benign_xids* are no reason to close a GPU. *shut* is why NVML is not to be opened before
    :meth:`reopen`.

    A GPU instance's device is its MIG device where *mode* is ``container``. Those of vGPUs are not
    NVML's to tell.
    """

    def __init__(
        self,
        location: Location | Callable[[], Location],
        mode: Mode,
        *,
        root: Path = Path("/"),
        within: float = WITHIN_SECONDS,
        listen_every: float = 1.0,
        retry_after: float = 30.0,
        benign_xids: frozenset[int] = APPLICATION_XIDS,
        shut: str = "",
    ) -> None:
        self._mode = mode
        self._root = root
        self._listen_every = listen_every
        self._retry_after = retry_after
        self._benign_xids = benign_xids
        self._nvml = Nvml(location, shut=shut)
        self._thread = NvmlThread(within=within, in_flight=lambda: self._nvml.in_flight)
        self._quarantine = Quarantine()
        self._look = Look(self._nvml, root, self._quarantine, devices=mode is Mode.CONTAINER)
        self._listener = events.Listener(self._nvml)
        self._listening = False
        self._boot_id = ""
        self._listed: dict[tuple[str, int], Described] = {}

    async def __aenter__(self) -> NvmlDriver:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Shut NVML down, unless a call that does not return forbids it."""
        if not self._thread.stuck:
            try:
                await self._thread.run(SHUTDOWN, self._nvml.close)
            except DriverError as error:
                log.warning("nvml_not_shut_down", error=str(error))
        self._thread.stop()

    @contextlib.asynccontextmanager
    async def closed(self) -> AsyncIterator[None]:
        """Keep NVML shut down: ``sriov-manage`` refuses to work beside a client of the GPU.

        All other calls wait, so within the context none may be awaited. The next one opens NVML.

        Raises:
            DriverError: it could not be shut down; the context is not entered.
        """
        async with self._thread.alone(SHUTDOWN, self._nvml.close):
            yield

    async def shut(self, reason: str) -> None:
        """Shut NVML down, so that this process has no GPU open, until :meth:`reopen`.

        Meanwhile all calls are refused (:class:`GivingWay`), and no events are heard.

        Raises:
            DriverError: some GPU may still be open.
        """
        await self._thread.run(SHUTDOWN, lambda: self._nvml.shut(reason))

    def reopen(self) -> None:
        """Let the next call open NVML."""
        self._nvml.reopen()

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

    async def enable_mig(self, gpu: str) -> str:
        """Turn MIG mode on on an idle GPU, and return what is still needed for it, "" if nothing.

        Only for when an administrator asks for it.

        Raises:
            InstanceInUse: the GPU is not idle.
            NotSupported: it has no MIG.
            DriverError: anything else.
        """
        return await self._thread.run(ENABLE_MIG, lambda: self._enable_mig(gpu), to_the_end=True)

    async def watch(self, changed: Callable[[], None]) -> None:
        """Listen to the driver's events until cancelled; call *changed* after each batch.

        Where there are none to be heard this only waits. Errors are logged, never raised.
        """
        failure = ""
        self._listening = True
        try:
            while True:
                pause = self._listen_every
                try:
                    if await self._thread.run(LISTEN, self._hear):
                        changed()
                    failure = ""
                except GivingWay:
                    pass
                except DriverError as error:
                    pause = self._retry_after
                    if failure != str(error):
                        failure = str(error)
                        log.warning("gpu_events_not_heard", error=failure, retry_seconds=pause)
                        changed()  # such as a GPU that is lost
                await asyncio.sleep(pause)
        finally:
            self._listening = False

    # -- on the thread -----------------------------------------------------------------------------

    def _discover(self) -> Host:
        self._nvml.open()
        boot_id = host.boot_id(self._root)
        if self._boot_id not in ("", boot_id):
            self._quarantine.rebooted()
        self._boot_id = boot_id
        if self._listening:
            self._listen_anew()
        found = Host(
            boot_id=boot_id,
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
        # Containers need a compute instance. That a vGPU brings its own is inferred: of those made
        # on the host NVIDIA's vGPU release 6 says that they are optional, 4.9 that they are
        # required; Harvester makes them (-C).
        geometry = self._look.seen[gpu].geometry if self._mode is Mode.CONTAINER else None
        made = change.create(self._nvml, gpu, profile_id, placement, full=geometry)
        self._listed[gpu, made.gi_id] = made
        return made.gi_id

    def _destroy(self, gpu: str, gi_id: int) -> None:
        self._nvml.open()
        change.destroy(self._nvml, gpu, gi_id, listed=self._listed.get((gpu, gi_id)))
        self._listed.pop((gpu, gi_id), None)

    def _enable_mig(self, gpu: str) -> str:
        self._nvml.open()
        return mode.enable(self._nvml, gpu)

    def _hear(self) -> bool:
        """Take note of the events there are, and tell whether there were any."""
        self._nvml.open()
        return self._note(self._listener.heard())

    def _listen_anew(self) -> None:
        try:
            self._note(self._listener.renew())
        except DriverError as error:  # a look tells more than events: it goes on
            log.warning("gpu_events_not_heard", error=str(error))

    def _note(self, heard: Iterable[Event]) -> bool:
        heard = tuple(heard)
        for event in heard:
            if event.gpu and (reason := events.strike(event, self._benign_xids)):
                log.error("gpu_struck", gpu=event.gpu, gi_id=event.gi_id, reason=reason)
                self._quarantine.strike(event.gpu, reason)
        return bool(heard)
