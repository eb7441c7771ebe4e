"""How soon the hooks get the interpreter back from a thread that plans or explains.

Only one thread at a time runs Python, and whoever wants its turn waits for the switch interval
first. An answer gives its turn away several times, for whatever it sends or reads: with Python's
5 ms between threads one among 5,000 nodes took up to 20 ms while a refusal was explained, of which
the work was 4 (measured; see ``benchmarks/README.md``).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

SWITCH_SECONDS = 0.00005
"""The switch interval: short beside an answer, long beside the switch itself."""


@contextlib.contextmanager
def threads_take_short_turns() -> Iterator[None]:
    """Let threads change places often until the block ends, then as before."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
