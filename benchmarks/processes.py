"""Extenders in processes of their own, and what the kernel counts for them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import aiohttp

ASKED_EVERY_SECONDS = 0.05
_TICKS = os.sysconf("SC_CLK_TCK")
_COUNTED = {"VmRSS": "resident_mb", "VmHWM": "peak_mb"}


def processor_seconds(pid: int) -> float:
    """Return how long a process has worked, in all its threads."""
    # The name, in parentheses, may have anything in it.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


TANGRAM = ("extender", "serve", "--reservation", "1000000")
PASSTHROUGH = ("benchmarks.passthrough",)


class Extender:
    """One extender process, ``tangram serve`` or another module; *directory* keeps its log."""

    def __init__(self, directory: Path, kubeconfig: Path, module: Sequence[str] = TANGRAM) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.pid = 0
        self.log = directory / "extender.log"
        self._command = (
            *(sys.executable, "-m", *module),
            *("--kubeconfig", str(kubeconfig), "--port", str(port)),
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run it until the block ends."""
        with self.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(*self._command, stdout=log, stderr=log)
        self.pid = process.pid
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def ready(self, within: float) -> float:
        """Wait until it answers the hooks; return when it said so, on ``time.perf_counter``.

        Raises:
            TimeoutError: it does not *within* so many seconds.
        """
        async with asyncio.timeout(within), aiohttp.ClientSession() as http:
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with http.get(f"{self.url}/readyz") as answer:
                        if answer.status == 200:
                            return time.perf_counter()
                await asyncio.sleep(ASKED_EVERY_SECONDS)

    def processor_seconds(self) -> float:
        """Return how long it has worked."""
        return processor_seconds(self.pid)

    def memory(self) -> Mapping[str, int]:
        """Return the bytes it has in memory, and the most it ever had."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        found = dict(line.split(":", 1) for line in lines)
        return {told: int(found[name].split()[0]) * 1024 for name, told in _COUNTED.items()}
