"""Where an agent can be killed: at the n-th crossing of a border, before it or after."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import msgspec

NVML, SYSFS, DISK, PLUGIN, API, ANY = "nvml", "sysfs", "disk", "plugin", "api", "any"
BEFORE, AFTER = "before", "after"


class Point(msgspec.Struct, frozen=True, order=True):
    """The *number*-th time (from 1) that something is done: *when* is "before" it or "after".

    *kind* is the border: ``nvml`` calls, ``sysfs`` writes, files on ``disk``, calls between
    ``plugin`` and kubelet, ``api`` calls; or ``any`` of those that the agent's process counts.
    """

    kind: str
    name: str
    number: int
    when: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}:{self.number}:{self.when}"

    @classmethod
    def parse(cls, text: str) -> Point:
        """Read what ``str`` has written.

        Raises:
            ValueError: it is no point.
        """
        kind, name, number, when = text.split(":")
        return cls(kind, name, int(number), when)


class Crossings:
    """Counts the crossings of one life, writes each down in *log*, and says which is *doomed*."""

    def __init__(self, log: Path, doom: Point | None) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._doom = doom
        self._counts: Counter[tuple[str, str, str]] = Counter()

    def doomed(self, kind: str, name: str, when: str) -> bool:
        """Count a crossing, and tell whether the agent is to die of it."""
        if self._doom is not None and self._doom.kind == ANY:
            self._counts[ANY, "", ""] += 1
            hit = self._counts[ANY, "", ""] == self._doom.number
        else:
            self._counts[kind, name, when] += 1
            hit = Point(kind, name, self._counts[kind, name, when], when) == self._doom
        number = self._counts[kind, name, when]
        os.write(self._log, f"{Point(kind, name, number, when)}\n".encode())
        return hit

    def cross(self, kind: str, name: str, when: str) -> None:
        """Count a crossing, and die of it if that is what is wanted."""
        if self.doomed(kind, name, when):
            os.kill(os.getpid(), signal.SIGKILL)
