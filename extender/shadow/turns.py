"""Short turns on a processor: who wants it more has it within 0.2 ms.

As nice as a process may be, a kernel that preempts lazily (``PREEMPT_LAZY``, Linux 6.13 and later)
lets it go on when another wakes, until it comes back to the kernel by itself: if it only computes,
until the next tick, up to 4 ms later. The loop that answers the hooks stood in the queue for as
long (``python -m benchmarks.decision_log --shadow first-fit``). A timer brings it back earlier.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

TURN_SECONDS = 0.0002


@contextmanager
def short_turns() -> Iterator[None]:
    """Give the processor up every :data:`TURN_SECONDS`; for the main thread alone, as signals are.

    A turn begins when the processor has been got back: while others have it for long, no alarms
    come one within the other. Whatever waits meanwhile in a system call goes on with it (PEP 475).
    Nobody else may have an alarm: it is off afterwards.
    """
    over = False

    def give_up(*_: object) -> None:
        os.sched_yield()
        if not over:
            signal.setitimer(signal.ITIMER_REAL, TURN_SECONDS)

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, TURN_SECONDS)
    try:
        yield
    finally:
        over = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
