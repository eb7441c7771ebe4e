"""Where the driver's libraries are, when the driver runs in a pod of its own.

Harvester's addon nvidia-driver-toolkit has the driver in a pod (``app=nvidia-driver-daemonset`` in
``harvester-system``) and nothing of it on the host. The files of that pod are reached through
``/proc/PID/root`` of any process in it; which process that is, shows what is below: NVIDIA's
``sriov-manage``, which only a vGPU host driver brings, and which Harvester itself calls by that
path. Where no pod has it, the host may: Harvester looks there, too.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import structlog

from nodeagent.driver import LibraryNotFound
from nodeagent.nvml.library import LOAD, Location, inside

log = structlog.get_logger()

MARK = "usr/lib/nvidia/sriov-manage"


class _Process(msgspec.Struct, frozen=True):
    """A process, and when it was started, in clock ticks: ids are used again."""

    pid: int
    started: int


class DriverRoot:
    """Finds a process of the driver's pod in the directory *proc*, and follows it to the next."""

    def __init__(self, proc: Path) -> None:
        self._proc = proc
        self._process: _Process | None = None

    def location(self) -> Location:
        """Return where the library is now. Another one than before means: open it anew.

        Raises:
            LibraryNotFound: no process has the driver's files.
        """
        known = self._process
        if known is None or self._started(known.pid) != known.started or not self._has(known.pid):
            self._process = found = self._found()
            log.info("driver_found", pid=found.pid)
            return Location(root=self._root(found.pid))
        return Location(root=self._root(known.pid))

    def _found(self) -> _Process:
        """Return the oldest process with the driver's files; of a pod's before the host's own."""
        found: list[tuple[bool, _Process]] = []
        host = self._namespace(1)
        seen: set[str] = set()
        for pid in sorted(int(each.name) for each in self._listed()):
            started, namespace = self._started(pid), self._namespace(pid)
            if started is None or namespace in seen:
                continue
            if namespace:
                seen.add(namespace)  # all in one mount namespace have the same files
            if self._has(pid):
                found.append((namespace == host, _Process(pid, started)))
        if not found:
            detail = f"no process has a /{MARK} (is Harvester's addon nvidia-driver-toolkit on?)"
            raise LibraryNotFound(LOAD, detail=detail)
        return min(found, key=lambda each: (each[0], each[1].started, each[1].pid))[1]

    def _listed(self) -> list[Path]:
        try:
            return [each for each in self._proc.iterdir() if each.name.isdecimal()]
        except OSError as error:
            raise LibraryNotFound(LOAD, detail=f"{self._proc}: {error.strerror}") from error

    def _root(self, pid: int) -> Path:
        return self._proc / str(pid) / "root"

    def _has(self, pid: int) -> bool:
        try:
            return inside(self._root(pid), MARK).exists()
        except OSError:
            return False  # it has ended, or may not be looked into

    def _namespace(self, pid: int) -> str:
        try:
            return str((self._proc / str(pid) / "ns/mnt").readlink())
        except OSError:
            return ""

    def _started(self, pid: int) -> int | None:
        """Return when a process was started, None if there is none.

        The 22nd field of its ``stat`` (proc_pid_stat(5)); the second may have blanks in brackets.
        """
        try:
            text = (self._proc / str(pid) / "stat").read_text()
            return int(text.rpartition(")")[2].split()[19])
        except (OSError, ValueError, IndexError):
            return None
