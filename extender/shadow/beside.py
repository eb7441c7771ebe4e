"""The door to a shadow's process: two threads, one that tells it and one that hears of it.

Neither is ever waited for by an answer. The one that tells shares the interpreter with the answers;
so it works aside (:class:`extender.service.right_of_way.Aside`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import IO

import msgspec
import structlog

from extender.service.right_of_way import Aside, RightOfWay
from extender.service.seam import Call
from extender.shadow.confined import MOST_BYTES as MEMORY_BYTES
from extender.shadow.confined import confine, environment
from extender.shadow.document import Evidence
from extender.shadow.hearing import MOST_BYTES, Hearing, told
from extender.shadow.news import News, line

log = structlog.get_logger()

COMMAND = (sys.executable, "-P", "-m", "extender.shadow.process")
"""Not from where we happen to be (``-P``)."""

MANY_WAITING_BYTES = MOST_BYTES // 10
"""What is told of whoever is being answered."""


class Beside:
    """A process, from the time it is made until :meth:`end`: tells it *standing*, then what waits.

    *hearing* is where that does; the hooks, if they have the right of *way*, go first.
    ``evidence`` is what it reported last, None before it has. Of memory it may have so many bytes.
    """

    def __init__(
        self,
        standing: Iterator[News],
        hearing: Hearing,
        way: RightOfWay | None = None,
        *,
        command: Sequence[str] = COMMAND,
        most_bytes: int = MEMORY_BYTES,
    ) -> None:
        self.evidence: Evidence | None = None
        self.failed = False
        self._standing = standing
        self._hearing = hearing
        self._command = command
        self._most_bytes = most_bytes
        self._began = self._caught_up = hearing.clock()
        self._written = 0
        self._stands_told = False
        self._aside = Aside()
        if way is not None:
            self._aside.heed(way)
        self._stopping = False
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="shadow-telling", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """The process's, None before there is one."""
        return None if self._process is None else self._process.pid

    @property
    def told(self) -> bool:
        """Whether the process has been told all that has been heard so far."""
        return not self._hearing.waiting

    @property
    def behind(self) -> int:
        """How much news there is of which the evidence does not tell yet."""
        evidence = self.evidence
        taken = 0 if evidence is None else evidence.taken
        return len(self._hearing.waiting) + self._written - taken + (not self._stands_told)

    @property
    def lag_seconds(self) -> float:
        """For how long the evidence has been behind: of a process that hangs it grows."""
        if self.behind <= 0:
            return 0.0
        evidence = self.evidence
        shown = self._began + (0.0 if evidence is None else evidence.seconds)
        return max(0.0, self._hearing.clock() - max(shown, self._caught_up))

    def end(self) -> None:
        """Kill the process, and end both threads: what it shows is of no use any more."""
        self._stopping = True
        self._aside.begin()
        process = self._process
        if process is not None:
            process.kill()  # if there is none yet, the thread sees to it
        self._thread.join()

    # In the thread that tells.

    def _run(self) -> None:
        process: subprocess.Popen[bytes] | None = None
        reading: threading.Thread | None = None
        try:
            process = self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                process_group=0,  # Ctrl-C is for us, and the end of its input for it
                env=environment(os.environ),
            )
            confine(process.pid, self._most_bytes)
            assert process.stdin is not None
            reading = threading.Thread(
                target=self._hear, args=(process.stdout,), name="shadow-reports", daemon=True
            )
            reading.start()
            self._tell(process.stdin)
        except BrokenPipeError:
            log.debug("shadow_input_broken")  # it has ended, as will be told below
        except Exception:  # whatever is wrong with a shadow, the hooks go on
            log.exception("shadow_not_told")
        finally:
            if process is not None:
                _see_end(process, reading)
            if not self._stopping:
                self.failed = True
                log.error("shadow_ended", status=None if process is None else process.returncode)

    def _tell(self, into: IO[bytes]) -> None:
        waiting = self._hearing.waiting
        for each in self._standing:
            self._write(into, each)
            while not (self._stopping or self._goes_on()):
                self._aside.wait(has_work=True)
            if self._stopping:
                return
        into.flush()
        del self._standing  # it holds on to how everything stood
        self._stands_told = True
        while not self._stopping:
            self._aside.wait(has_work=bool(waiting))
            if self.behind <= 0:
                self._caught_up = self._hearing.clock()
            if self._process is not None and self._process.poll() is not None:
                return
            while waiting and self._goes_on():
                call = waiting.take()
                if not isinstance(call, Call):
                    break  # what found no room ends the stretch
                self._write(into, told(call))
            into.flush()

    def _goes_on(self) -> bool:
        return self._aside.goes_on(hurry=self._hearing.waiting.bytes >= MANY_WAITING_BYTES)

    def _write(self, into: IO[bytes], each: News) -> None:
        into.write(line(each))
        self._written += 1

    # In the thread that hears of it.

    def _hear(self, reports: IO[bytes]) -> None:
        with reports:
            for each in reports:
                try:
                    self.evidence = msgspec.json.decode(each, type=Evidence)
                except msgspec.DecodeError as error:
                    log.error("shadow_misunderstood", error=str(error))


def _see_end(process: subprocess.Popen[bytes], reading: threading.Thread | None) -> None:
    """Leave nothing of a process, whether it has ended or not, nor of who *reads* its reports."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.kill()
    process.wait()
    try:
        process.stdin.close()
    except OSError:
        log.debug("shadow_input_broken")
    if reading is not None and reading.ident is not None:
        reading.join()
    else:
        process.stdout.close()
