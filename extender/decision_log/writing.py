"""Writing the log: calls are handed over on the event loop, and written by a thread.

::

    an answer ──▶ heard: one append ─▶ what waits ─▶ the thread: encode ─▶ compress ─▶ file
                      │ too much                          │ the disk is full, or gone
                      └──▶ counted, and told as a gap ◀───┘ tried again after seconds

Nobody waits for the thread: it takes no lock that an answer would want. It shares the interpreter
with the answers all the same; so it works aside, when none is being made
(:class:`extender.service.right_of_way.Aside`).
"""

from __future__ import annotations

import secrets
import threading
import time
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
from extender.decision_log.restating import Restating
from extender.decision_log.waiting import MOST_BYTES, State, Waiting
from extender.metrics import LogFigures
from extender.policy import InForce
from extender.service.knowledge import Knowledge
from extender.service.restating import restated
from extender.service.right_of_way import Aside
from extender.service.seam import Call
from extender.settings import Settings
from nodeagent.api import rfc3339

log = structlog.get_logger()

FLUSH_SECONDS = 0.1
"""How often what was written is made to be read: a crash loses that, under load all that waits."""

MANY_WAITING_BYTES = MOST_BYTES // 10
"""What is written whoever is being answered."""

CLOSING_SECONDS = 5.0
"""For how long a process that ends waits for the rest to be written."""

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
        most_bytes: int = MOST_BYTES,
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
        self._restating = Restating(self._encoder)
        self._waiting = Waiting(most_bytes)
        # Each counted by one thread alone, so that neither needs a lock.
        self._abandoned = 0
        self._written = 0
        self._lost_to_disk = 0
        self._lost_to_faults = 0
        self._errors = 0
        self._unflushed = 0
        self._unwritten = 0
        self._broken_until: float | None = None
        self._wrote = False
        self._flush_at = 0.0
        self._aside = Aside()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="decision-log", daemon=True)

    def __enter__(self) -> DecisionLog:
        """Begin the first file, and the thread.

        Raises:
            OSError: the file cannot be written.
        """
        self._begin_file()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write what waits, and end the file; on a disk that hangs, give up what is left."""
        self._stopping = True
        self._aside.begin()
        self._thread.join(CLOSING_SECONDS)
        if self._thread.is_alive():
            self._abandoned = self._waiting.heard - self._written - self.figures().lost
            waited = CLOSING_SECONDS
            self._say(log.error, "decision_log_abandoned", lost=self._abandoned, seconds=waited)

    def figures(self) -> LogFigures:
        """How the log fares, for any thread."""
        return LogFigures(
            records=self._written,
            lost=self._waiting.refused
            + self._lost_to_disk
            + self._lost_to_faults
            + self._abandoned,
            errors=self._errors,
            bytes=self._files.kept_bytes,
            waiting=len(self._waiting),
        )

    def heard(self, call: Call) -> None:
        """Hand a call over, on the event loop; it is counted as lost if too much waits."""
        if self._waiting.put(call) and self._restating.asked:
            self._waiting.put_state(self._restating.state())

    def follow(self, knowledge: Knowledge) -> None:
        """Begin files with what is known there, from the second on, and have the figures shown."""
        self._aside.heed(knowledge.way)
        self._restating.begin(lambda: restated(knowledge))
        knowledge.work.decision_log.read = self.figures

    # In the thread, which ends with the process and no sooner: what fails is tried again.

    def _run(self) -> None:
        while not self._stopping:
            self._aside.wait(has_work=self._left)
            self._tried(self._write_aside)
        while self._left:
            self._tried(self._write_next)
        self._tried(self._end)

    @property
    def _left(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._waiting) or self._restating.under_way

    def _tried(self, step: Callable[[], None]) -> bool:
        """Do what the disk may refuse, or a fault prevent; then the file is given up."""
        try:
            step()
        except Exception as error:  # noqa: BLE001 - it is told there
            self._break(error)
            return False
        return True

    def _write_aside(self) -> None:
        while self._left and self._aside.goes_on(hurry=self._waiting.bytes >= MANY_WAITING_BYTES):
            self._write_next()
        now = time.perf_counter()
        if self._wrote and now >= self._flush_at and self._broken_until is None:
            self._flush_at = now + FLUSH_SECONDS
            self._flush()

    def _write_next(self) -> None:
        if self._restating.under_way:
            self._restate()
        else:
            self._take()

    def _restate(self) -> None:
        """Write the next line of what was known at the beginning of the file."""
        try:
            line = self._restating.next()
        except Exception as error:  # noqa: BLE001 - the log must outlive a fault in it
            self._restating.drop()
            self._say(log.error, "decision_log_not_restated", exc_info=error)
            return
        if line is None:
            self._tried(self._files.restated)
        else:
            self._put(line, calls=0)

    def _take(self) -> None:
        call = self._waiting.take()
        if isinstance(call, int):
            self._gap(call, Why.OVERFLOW)
            return
        if isinstance(call, State):
            self._tried(lambda: self._take_state(call))
            return
        if isinstance(call.outcome, InForce):
            self._policy = self._told(call.outcome)
        if not self._mended():
            self._encoder.skip(call)
            self._unwritten += 1
            self._lost_to_disk += 1
            return
        try:
            lines = b"".join(self._encoder.lines(call))
        except Exception as error:  # noqa: BLE001 - the log must outlive a fault in it
            self._lost_to_faults += 1
            self._encoder.begin_file()  # it may refer to names that are not written
            self._put(_line(Gap(1, Why.FAULT)), calls=0)
            self._say(log.error, "decision_not_encoded", call=call.name, exc_info=error)
        else:
            self._put(lines, calls=1)

    def _take_state(self, state: State) -> None:
        """Have a state written: at the beginning of the next file, if this one is full."""
        self._restating.take(state)
        if self._broken_until is not None:
            self._restating.drop()  # another is asked for once there is a file
        elif self._files.full:
            self._files.flush()
            self._count_as_written()
            self._next_file()

    def _gap(self, lost: int, why: Why) -> None:
        self._encoder.calls += lost
        if self._mended():
            self._put(_line(Gap(lost, why)), calls=0)

    def _put(self, lines: bytes, *, calls: int) -> None:
        self._unflushed += calls
        self._wrote = True
        self._tried(lambda: self._files.write(lines))

    def _flush(self) -> None:
        self._wrote = False
        self._files.flush()
        self._count_as_written()
        if self._files.full and not self._restating.under_way and not self._restating.ask():
            self._next_file()

    def _next_file(self) -> None:
        self._files.write(_line(End(self._encoder.calls)))
        self._files.end()
        self._begin_file()

    def _count_as_written(self) -> None:
        self._written += self._unflushed
        self._unflushed = 0

    def _break(self, error: Exception) -> None:
        """Give the file up, and what of it was not flushed; another is tried after seconds."""
        news = self._broken_until is None
        self._errors += 1
        self._unwritten += self._unflushed
        self._lost_to_disk += self._unflushed
        self._unflushed = 0
        self._broken_until = self._clock() + RETRY_SECONDS
        self._restating.drop()
        try:
            self._files.close()
        except OSError:
            self._errors += 1
        if news:
            fault = None if isinstance(error, OSError) else error
            self._say(
                log.error,
                "decision_log_broken",
                error=str(error),
                retry_seconds=RETRY_SECONDS,
                exc_info=fault,
            )

    def _mended(self) -> bool:
        """Tell whether there is a file; after a fault, begin another when it is time."""
        if self._broken_until is None:
            return True
        if self._clock() < self._broken_until:
            return False
        lost = self._unwritten
        gap = [Gap(lost, Why.DISK)] if lost else []
        if not self._tried(lambda: self._begin_file(*gap)):
            return False
        self._broken_until, self._unwritten = None, 0
        self._restating.ask()
        self._say(log.warning, "decision_log_resumed", lost=lost)
        return True

    def _begin_file(self, *gap: Gap) -> None:
        now = self._utc_now()
        header = Header(
            program=version("tangram-vgpu"),
            run=self.run,
            file=self._files.number + 1,
            began=rfc3339.microseconds(now),
            leads=self._leads,
            hashed=self._names is not None,
            policy=self._policy,
            settings=self._settings,
        )
        self._encoder.begin_file()
        self._files.begin(f"{now:%Y%m%dT%H%M%SZ}", b"".join(map(_line, (header, *gap))))

    def _told(self, policy: InForce) -> InForce:
        """Return a policy as a header tells it."""
        return policy if self._names is None else self._names.of_policy(policy)

    def _end(self) -> None:
        if self._waiting.untold:
            self._gap(self._waiting.untold, Why.OVERFLOW)
        if self._broken_until is None:
            self._files.write(_line(End(self._encoder.calls)))
            self._files.end()
            self._count_as_written()

    def _say(self, tell: Callable[..., object], event: str, **facts: object) -> None:
        """Log, once all is accounted for; where even that fails, the figures tell."""
        try:
            tell(event, **facts)
        except Exception:  # noqa: BLE001 - there is nobody left to tell
            self._errors += 1


def _line(line: msgspec.Struct) -> bytes:
    return msgspec.json.encode(line) + b"\n"
