"""A process of Tangram's under test, with its log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Process:
    """A process of Tangram's with its log; its code is that in *tree*.

    It has the *environment* of this process, and more.
    """

    def __init__(
        self,
        log: Path,
        *arguments: str,
        tree: Path = ROOT,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.log = log
        self._arguments = arguments
        self._tree = tree
        self._environment = environment or {}
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, appending to the log."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", *self._arguments),
                stdout=log,
                stderr=log,
                cwd=self._tree,
                env=os.environ | self._environment | {"PYTHONPATH": str(self._tree)},
            )

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal it and wait for its end."""
        if self._process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        code = await asyncio.wait_for(self._process.wait(), 30)
        self._process = None
        return code

    async def ended(self) -> int:
        """Wait until it ends by itself, and return its exit code."""
        assert self._process is not None
        code = await self._process.wait()
        self._process = None
        return code

    def signal(self, number: int) -> None:
        """Signal it, and wait for nothing."""
        if self._process is not None:
            self._process.send_signal(number)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log events of that name."""
        found = []
        for line in self.log.read_text().splitlines():
            if line.startswith("{") and f'"{name}"' in line:
                event = json.loads(line)
                if event.get("event") == name:
                    found.append(event)
        return found
