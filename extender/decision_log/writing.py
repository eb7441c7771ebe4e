"""Writing the log: calls are handed over on the event loop, and written by a thread.

::

    an answer ──▶ heard: one append ─▶ queue, bounded ─▶ the thread: encode ─▶ compress ─▶ file
                      │ full                                  │ the disk is full, or gone
                      └──▶ counted, and told as a gap ◀───────┘ tried again after seconds

Nobody waits for the thread: it takes no lock that an answer would want. It shares the interpreter
with the answers all the same; so it looks at the queue a few times a second only, encodes for a
moment, and pauses before it goes on.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType

import msgspec
import structlog

from extender.decision_log.encoding import Encoder
from extender.decision_log.files import Files, Limits
from extender.decision_log.hashing import Names
from extender.decision_log.layout import End, Gap, Header, Why
from extender.metrics import LogFigures
from extender.policy import InForce
from extender.service.seam import Call
from extender.settings import Settings
from nodeagent.api import rfc3339
from nodeagent.api.gpunode import GpuNode

log = structlog.get_logger()

LOOK_SECONDS = 0.1
"""How often the queue is looked at, and so how much a crash loses at most."""

TURN_SECONDS = 0.0002
PAUSE_SECONDS = 0.002
"""For how long is encoded at a time, and for how long is paused then."""

MOST_WAITING = 500_000
"""What may wait, by weight: names count one each, and so does a call."""

MANY_WAITING = MOST_WAITING // 10
"""What no pause is made with."""

NODE_WEIGHT = 20  # a GpuNode is mostly in memory anyway

RETRY_SECONDS = 5.0
"""After how long a disk that was full, or a folder that was gone, is tried again."""


class DecisionLog:
    """A run's log in a *folder*; *policy* and *settings* are what the service begins with.

    ``leads`` is whether it leads without having been elected. With *names*, these are hidden.
    """

    def __init__(
        self,
        folder: Path,
        *,
        policy: InForce,
        settings: Settings,
        leads: bool = True,
        limits: Limits | None = None,
        names: Names | None = None,
        most_waiting: int = MOST_WAITING,
        utc_now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.run = secrets.token_hex(6)
        self._names = names
        self._policy = self._told(policy.proven_on(()))
        self._settings = settings
        self._leads = leads
        self._utc_now = utc_now
        self._clock = clock
        self._files = Files(folder, self.run, limits or Limits())
        self._encoder = Encoder(self._policy.version, names)
        self._most = most_waiting
        self._queue: deque[tuple[Call, int] | int] = deque()
        # Each counted by one thread alone, so that neither needs a lock.
        self._handed = 0
        self._taken = 0
        self._refused = 0
        self._lost_to_overflow = 0
        self._written = 0
        self._lost_to_disk = 0
        self._lost_to_faults = 0
        self._errors = 0
        self._unflushed = 0
        self._unwritten = 0
        self._broken_until: float | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="decision-log", daemon=True)

    def __enter__(self) -> DecisionLog:
        """Begin the first file, and the thread.

        Raises:
            OSError: the file cannot be written.
        """
        self._begin_file()
        self._files.flush()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write what waits, and end the file."""
        self._stopping.set()
        self._thread.join()

    def figures(self) -> LogFigures:
        """How the log fares, for any thread."""
        return LogFigures(
            records=self._written,
            lost=self._lost_to_overflow + self._lost_to_disk + self._lost_to_faults,
            errors=self._errors,
            bytes=self._files.kept_bytes,
            waiting=max(0, self._handed - self._taken),
        )

    # On the event loop.

    def heard(self, call: Call) -> None:
        """Hand a call over, or count it as lost if too much waits."""
        weight = 1
        for each in call.args:
            if isinstance(each, (tuple, list)):
                weight += len(each)
            elif isinstance(each, GpuNode):
                weight += NODE_WEIGHT
        if self._handed - self._taken + weight > self._most:
            self._refused += 1
            self._lost_to_overflow += 1
            return
        if self._refused:
            self._queue.append(self._refused)
            self._refused = 0
        self._handed += weight
        self._queue.append((call, weight))

    # In the thread.

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                self._write_what_waits()
            except Exception as error:  # the thread must not die: it is tried again as a full disk
                log.exception("decision_log_failed")
                self._break(error)
        self._write_what_waits(at_once=True)
        if self._refused:
            self._gap(self._refused, Why.OVERFLOW)
        self._end_file()

    def _write_what_waits(self, *, at_once: bool = False) -> None:
        wrote, began = False, time.perf_counter()
        while self._queue and (at_once or time.perf_counter() - began < LOOK_SECONDS):
            until = time.perf_counter() + TURN_SECONDS
            while self._queue and time.perf_counter() < until:
                self._take(self._queue.popleft())
            wrote = True
            if not at_once and self._handed - self._taken < MANY_WAITING:
                self._stopping.wait(PAUSE_SECONDS)
        if wrote:
            self._flush()

    def _take(self, item: tuple[Call, int] | int) -> None:
        if isinstance(item, int):
            self._gap(item, Why.OVERFLOW)
            return
        call, weight = item
        self._taken += weight
        if isinstance(call.outcome, InForce):
            self._policy = self._told(call.outcome)
        if not self._mended():
            self._encoder.skip(call)
            self._unwritten += 1
            self._lost_to_disk += 1
            return
        try:
            lines = b"".join(self._encoder.lines(call))
        except Exception:  # the log must outlive a fault in it, and so must the service
            log.exception("decision_not_encoded", call=call.name)
            self._lost_to_faults += 1
            self._encoder.begin_file()  # it may refer to names that are not written
            self._put(_line(Gap(1, Why.FAULT)), calls=0)
        else:
            self._put(lines, calls=1)

    def _gap(self, lost: int, why: Why) -> None:
        self._encoder.calls += lost
        if self._mended():
            self._put(_line(Gap(lost, why)), calls=0)

    def _put(self, lines: bytes, *, calls: int) -> None:
        self._unflushed += calls
        try:
            self._files.write(lines)
        except OSError as error:
            self._break(error)

    def _flush(self) -> None:
        if self._broken_until is not None:
            return
        try:
            self._files.flush()
            self._written += self._unflushed
            self._unflushed = 0
            if self._files.full:
                self._files.write(_line(End(self._encoder.calls)))
                self._files.end()
                self._begin_file()
        except OSError as error:
            self._break(error)

    def _break(self, error: Exception) -> None:
        """Give the file up, and what of it was not flushed; another is tried after seconds."""
        self._errors += 1
        if self._broken_until is None:
            log.error("decision_log_broken", error=str(error), retry_seconds=RETRY_SECONDS)
        self._unwritten += self._unflushed
        self._lost_to_disk += self._unflushed
        self._unflushed = 0
        self._broken_until = self._clock() + RETRY_SECONDS
        try:
            self._files.close()
        except OSError as again:
            log.error("decision_log_broken", error=str(again), retry_seconds=RETRY_SECONDS)

    def _mended(self) -> bool:
        """Tell whether there is a file; after a fault, begin another when it is time."""
        if self._broken_until is None:
            return True
        if self._clock() < self._broken_until:
            return False
        try:
            self._begin_file()
            self._files.write(_line(Gap(self._unwritten, Why.DISK)))
            self._files.flush()
        except OSError as error:
            self._break(error)
            return False
        log.warning("decision_log_resumed", lost=self._unwritten)
        self._broken_until, self._unwritten = None, 0
        return True

    def _begin_file(self) -> None:
        now = self._utc_now()
        self._files.begin(f"{now:%Y%m%dT%H%M%SZ}")
        self._encoder.begin_file()
        header = Header(
            program=version("tangram-vgpu"),
            run=self.run,
            file=self._files.number,
            began=rfc3339.microseconds(now),
            leads=self._leads,
            hashed=self._names is not None,
            policy=self._policy,
            settings=self._settings,
        )
        self._files.write(_line(header))

    def _told(self, policy: InForce) -> InForce:
        """Return a policy as a header tells it."""
        return policy if self._names is None else self._names.of_policy(policy)

    def _end_file(self) -> None:
        if self._broken_until is not None:
            return
        try:
            self._files.write(_line(End(self._encoder.calls)))
            self._files.end()
            self._written += self._unflushed
        except OSError as error:
            self._break(error)


def _line(line: msgspec.Struct) -> bytes:
    return msgspec.json.encode(line) + b"\n"
