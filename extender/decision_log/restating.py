"""Files that begin with what is known: then what is left can be played, whatever has gone.

::

    the thread: a file is full ─▶ asked ─▶ the loop, with the next call: a state, by references
                                                                              │
    the thread: the next file ◀── one line after the other, with pauses ◀─────┘

Until the state comes the file that is full goes on; it comes with the next call that finds room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import structlog

from extender.decision_log.encoding import Encoder
from extender.decision_log.waiting import State
from extender.service.seam import Call

log = structlog.get_logger()


class Restating:
    """Asks for states, and has one written at a time; *encoder* makes its lines.

    ``asked`` is set by the thread, and taken back on the event loop: neither needs a lock.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.asked = False
        self._encoder = encoder
        self._source: Callable[[], Iterator[Call]] | None = None
        self._expected = False
        self._lines: Iterator[bytes] | None = None

    # On the event loop.

    def begin(self, source: Callable[[], Iterator[Call]]) -> None:
        """Tell states by what *source* returns, between two calls."""
        self._source = source

    def state(self) -> State:
        """Return the state that is asked for."""
        self.asked = False
        try:
            return State(None if self._source is None else self._source())
        except Exception:  # a log without a state is better than none
            log.exception("decision_log_not_restated")
            return State(None)

    # In the thread.

    @property
    def under_way(self) -> bool:
        """Whether a state is being written."""
        return self._lines is not None

    def ask(self) -> bool:
        """Ask for a state, once; tell whether one is to be expected."""
        if self._source is None:
            return False
        if not self._expected:
            self._expected = self.asked = True
        return True

    def take(self, state: State) -> None:
        """Take a state in that was asked for, to be written from here on."""
        self._expected = False
        self._lines = None if state.calls is None else self._encoder.restating(state.calls)

    def next(self) -> bytes | None:
        """Return the next line, None if that was all."""
        assert self._lines is not None
        line = next(self._lines, None)
        if line is None:
            self._lines = None
        return line

    def drop(self) -> None:
        """Write no more of what is being written."""
        self._lines = None
