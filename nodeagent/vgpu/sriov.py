"""Virtual functions: enabled on request, on a GPU that holds nothing, before anything is made.

Enabling rebinds the GPU to its driver and so wipes its GPU instances, while MIG mode stays; with
GPU instances made first, no vGPU type is ever offered. Hence the order: MIG mode, virtual
functions, GPU instances, vGPUs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from nodeagent.driver import DriverError, InstanceInUse, LiveGpu, MigDisabled, VgpuError
from nodeagent.vgpu.sysfs import Sysfs, functions

log = structlog.get_logger()

ENABLE = "sriov-manage"
SCRIPT = Path("/usr/lib/nvidia/sriov-manage")
ATTEMPTS = 5
WITHIN_SECONDS = 60.0
_BUSY = "Cannot obtain unbindLock"  # some client still holds the GPU


async def enable_sriov(
    gpu: LiveGpu,
    sysfs: Sysfs,
    *,
    closed: Callable[[], contextlib.AbstractAsyncContextManager[None]],
    script: Path = SCRIPT,
    within: float = WITHIN_SECONDS,
    pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> None:
    """Give *gpu* its virtual functions, unless it has them; only when an administrator asks for it.

    NVML is *closed* meanwhile, for ``sriov-manage`` waits for every client of the GPU to let go.
    *within* is for each run of *script*, in seconds.

    Raises:
        MigDisabled: MIG mode must be on before.
        InstanceInUse: the GPU holds GPU instances, which would be wiped.
        VgpuError: it did not work.
        DriverError: NVML could not be closed.
    """
    if functions(sysfs, gpu.pci_address):
        return
    if not gpu.mig_enabled:
        raise MigDisabled(ENABLE)
    if gpu.instances:
        raise InstanceInUse(ENABLE, detail="enabling virtual functions would wipe GPU instances")
    if gpu.unhealthy:
        raise DriverError(ENABLE, meaning=gpu.unhealthy)
    said = ""
    async with closed():
        for attempt in range(ATTEMPTS):
            if attempt:
                await pause(2.0**attempt)
            said = await _run(script, gpu.pci_address, within)
            if _BUSY not in said:
                break
    if not functions(sysfs, gpu.pci_address):
        brief = " ".join(said.split())[-300:] or "it said nothing"
        raise VgpuError(f"{ENABLE} -e {gpu.pci_address}", meaning="no functions came", detail=brief)
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
        )
    except OSError as error:
        raise VgpuError(f"run {script}", code=error.errno or 0) from error
    try:
        async with asyncio.timeout(within):
            output, _ = await process.communicate()
    except TimeoutError as error:
        process.kill()
        await process.wait()
        raise VgpuError(f"{ENABLE} -e {address}", meaning="no end in time") from error
    return output.decode(errors="replace")
