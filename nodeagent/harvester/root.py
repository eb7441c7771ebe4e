"""Where the driver's libraries are, when the driver runs in a pod of its own.

Harvester's addon nvidia-driver-toolkit has the driver in a pod (``app=nvidia-driver-daemonset`` in
``harvester-system``) and nothing of it on the host. The files of that pod are reached through
``/proc/PID/root`` of any process in it. Which pod it is, the API server says (``driver_pods``), and
which processes are in it, their control groups: a tenant's container can hold any file, and a
library that is loaded acts with all that the agent may do. What is below tells whether the driver
is installed yet: NVIDIA's ``sriov-manage``, which only a vGPU host driver brings, and which
Harvester itself calls by that path. Where no pod has it, the host may: Harvester looks there, too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import msgspec
import structlog

from nodeagent.driver import LibraryNotFound
from nodeagent.harvester.cgroups import pod_of
from nodeagent.nvml.library import LOAD, Location, inside

log = structlog.get_logger()

MARK = "usr/lib/nvidia/sriov-manage"


class _Process(msgspec.Struct, frozen=True):
    """A process, and when it was started, in clock ticks: ids are used again."""

    pid: int
    started: int


class DriverRoot:
    """Finds a process of the driver's pod in the directory *proc*, and follows it to the next.

    *pods* returns the UIDs of the driver's pods on this node, None before they are known.
    """

    def __init__(self, proc: Path, pods: Callable[[], Collection[str] | None]) -> None:
        self._proc = proc
        self._pods = pods
        self._process: _Process | None = None

    def location(self) -> Location:
        """Return where the library is now. Another one than before means: open it anew.

        Raises:
            LibraryNotFound: no process of a driver's pod has its files, nor has the host; or which
                pods these are is to be asked for.
        """
        known = self._process
        if known is None or self._started(known.pid) != known.started or not self._has(known.pid):
            self._process = found = self._found()
            log.info("driver_found", pid=found.pid)
            return Location(root=self._root(found.pid))
        return Location(root=self._root(known.pid))

    def _found(self) -> _Process:
        """Return the oldest process with the driver's files; of a pod's before the host's own.

        The files of others are not even looked for: a tenant's file system need not answer.
        """
        pods = self._pods()
        if pods is None:
            raise LibraryNotFound(LOAD, detail="Harvester's driver pods are not known yet")
        pids = sorted(int(each.name) for each in self._listed())
        found = [
            _Process(pid, started)
            for pid in pids
            if (started := self._started(pid)) is not None
            and self._pod(pid) in pods
            and self._has(pid)
        ]
        if found:
            return min(found, key=lambda each: (each.started, each.pid))
        if (started := self._started(1)) is not None and self._has(1):
            return _Process(1, started)
        where = "no process of Harvester's driver pod has" if pods else "no driver pod is here with"
        detail = f"{where} a /{MARK} (is Harvester's addon nvidia-driver-toolkit on?)"
        log.warning("driver_not_found", reason=where, pods=sorted(pods), processes=len(pids))
        raise LibraryNotFound(LOAD, detail=detail)

    def _pod(self, pid: int) -> str:
        try:
            return pod_of((self._proc / str(pid) / "cgroup").read_text())
        except (OSError, ValueError):
            return ""  # it has ended, or its name is none

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

    def _started(self, pid: int) -> int | None:
        """Return when a process was started, None if there is none.

        The 22nd field of its ``stat`` (proc_pid_stat(5)); the second may have blanks in brackets.
        """
        try:
            text = (self._proc / str(pid) / "stat").read_text()
            return int(text.rpartition(")")[2].split()[19])
        except (OSError, ValueError, IndexError):
            return None
