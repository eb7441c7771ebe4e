"""What the scheduler's own metrics and the kernel count while pods are scheduled."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import time
from collections.abc import AsyncIterator
from typing import Any

from benchmarks.processes import Extender, processor_seconds
from tests.e2e.controlplane.cluster import ControlPlane

_ALGORITHM = re.compile(
    r"^scheduler_scheduling_algorithm_duration_seconds_(sum|count) ([0-9.e+-]+)$", re.MULTILINE
)

LOOK_SECONDS = 0.5
REST_SHARE = 0.1  # of a processor: watches, sweeps and Leases of 1,000 nodes go on
REST_WITHIN_SECONDS = 10.0

Row = dict[str, Any]


class Meter:
    """The processes of a control plane, and the *extender* where there is one."""

    def __init__(self, plane: ControlPlane, extender: Extender | None) -> None:
        self._plane = plane
        self._extender = extender

    @contextlib.asynccontextmanager
    async def measured(self, pods: int) -> AsyncIterator[Row]:
        """Count what is done during the block, for each of so many *pods*.

        A process that starts in it counts with its start.
        """
        row: Row = {}
        before, (seconds, attempts) = self._worked(), await self._algorithm()
        own = time.process_time()
        yield row
        own = time.process_time() - own
        after, (seconds_then, attempts_then) = self._worked(), await self._algorithm()
        row["attempts"] = round(attempts_then - attempts)
        took = 1000 * (seconds_then - seconds)
        row["algorithm_ms"] = round(took / max(1, attempts_then - attempts), 3)
        row["algorithm_ms_per_pod"] = round(took / pods, 3)
        for (name, pid), worked in after.items():
            row[f"cpu_{name}"] = round(1000 * (worked - before.get((name, pid), 0.0)) / pods, 2)
        row["cpu_agents"] = round(1000 * own / pods, 2)

    async def at_rest(self) -> None:
        """Wait until the extender has done what follows from its start, or never comes to rest."""
        if self._extender is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REST_WITHIN_SECONDS):
                worked = math.inf
                while worked > REST_SHARE * LOOK_SECONDS:
                    before = processor_seconds(self._extender.pid)
                    await asyncio.sleep(LOOK_SECONDS)
                    worked = processor_seconds(self._extender.pid) - before

    def _worked(self) -> dict[tuple[str, int], float]:
        pids = {
            name.removeprefix("kube-"): process.pid
            for name, process in self._plane.processes.items()
            if process.pid
        }
        if self._extender is not None:
            pids["extender"] = self._extender.pid
        return {(name, pid): processor_seconds(pid) for name, pid in pids.items()}

    async def _algorithm(self) -> tuple[float, float]:
        """Return the seconds of the scheduler's algorithm so far, and of how many attempts."""
        if not self._plane.processes["kube-scheduler"].running:
            return 0.0, 0.0
        url = f"{self._plane.scheduler_url}/metrics"
        async with self._plane.client() as http, http.get(url) as answer:
            found = dict(_ALGORITHM.findall(await answer.text()))
        return float(found.get("sum", 0)), float(found.get("count", 0))
