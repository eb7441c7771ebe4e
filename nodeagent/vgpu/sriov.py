"""Virtual functions: enabled on request, on a GPU that holds nothing, before anything is made.

Enabling rebinds the GPU to its driver and so wipes its GPU instances, while MIG mode stays; with
GPU instances made first, no vGPU type is ever offered. Hence the order: MIG mode, virtual
functions, GPU instances, vGPUs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from nodeagent.driver import (
    SRIOV_DISABLED,
    DriverError,
    InstanceInUse,
    LiveGpu,
    MigDisabled,
    VgpuError,
)
from nodeagent.vgpu.functions import functions
from nodeagent.vgpu.sysfs import Sysfs
from nodeagent.vgpu.worker import Worker

log = structlog.get_logger()

ENABLE = "sriov-manage"
SCRIPT = Path("/usr/lib/nvidia/sriov-manage")
ATTEMPTS = 5
WITHIN_SECONDS = 60.0
REAPED_WITHIN_SECONDS = 5.0
_BUSY = "Cannot obtain unbindLock"  # some client still holds the GPU


async def enable_sriov(
    gpu: LiveGpu,
    sysfs: Sysfs,
    worker: Worker,
    *,
    closed: Callable[[], contextlib.AbstractAsyncContextManager[None]],
    script: Path = SCRIPT,
    within: float = WITHIN_SECONDS,
    pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> None:
    """Give *gpu* its virtual functions, unless it has them; only when an administrator asks for it.

    NVML is *closed* meanwhile, for ``sriov-manage`` waits for every client of the GPU to let go;
    *worker* reads the files and so must be another thread than NVML's. *within* is for each run of
    *script*, in seconds.

    Raises:
        MigDisabled: MIG mode must be on before.
        InstanceInUse: the GPU holds GPU instances, which would be wiped.
        VgpuError: it did not work.
        DriverError: NVML could not be closed, or the GPU is not well.
    """

    async def enabled() -> bool:
        return bool(await worker.run(ENABLE, lambda: functions(sysfs, gpu.pci_address)))

    if await enabled():
        return
    if not gpu.mig_enabled:
        raise MigDisabled(ENABLE)
    if gpu.instances:
        raise InstanceInUse(ENABLE, detail="enabling virtual functions would wipe GPU instances")
    if gpu.unhealthy not in ("", SRIOV_DISABLED):
        raise DriverError(ENABLE, meaning=gpu.unhealthy)
    said = ""
    async with closed():
        for attempt in range(ATTEMPTS):
            if attempt:
                await pause(2.0**attempt)
            said = await _run(script, gpu.pci_address, within)
            if _BUSY not in said:
                break
    if not await enabled():
        brief = " ".join(said.split())[-300:] or "it said nothing"
        raise VgpuError(
            f"{ENABLE} -e {gpu.pci_address}", meaning="no virtual functions came", detail=brief
        )
    log.info("sriov_enabled", gpu=gpu.uuid, address=gpu.pci_address)


async def _run(script: Path, address: str, within: float) -> str:
    """Run the script to its end and return what it said; how it went is judged by the functions."""
    try:
        process = await asyncio.create_subprocess_exec(
            script,
            "-e",
            address,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # so that what it has started can be ended with it
        )
    except OSError as error:
        raise VgpuError(f"run {script}", code=error.errno or 0) from error
    try:
        async with asyncio.timeout(within):
            output, _ = await process.communicate()
    except TimeoutError as error:
        await _end(process)
        raise VgpuError(f"{ENABLE} -e {address}", meaning="no end in time") from error
    return output.decode(errors="replace")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill a process and its children; one that is stuck in the kernel is left to it."""
    with contextlib.suppress(ProcessLookupError):  # it has ended just now
        os.killpg(process.pid, signal.SIGKILL)
    try:
        async with asyncio.timeout(REAPED_WITHIN_SECONDS):
            await process.wait()
    except TimeoutError:
        log.error("sriov_manage_stuck", pid=process.pid)
