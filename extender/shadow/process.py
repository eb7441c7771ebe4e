"""What runs beside the extender: reads news from its input, and writes what they show.

It ends with its input, and so with the extender, however that ends. ``python -m
extender.shadow.process`` is for the extender to start, not for people.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterator

import msgspec
import structlog

from extender.shadow import news
from extender.shadow.imagined import Imagined
from extender.shadow.turns import short_turns
from nodeagent.logs import Format, log_to_stderr

log = structlog.get_logger()

REPORT_SECONDS = 1.0
"""Between two reports, while there is news."""

READ_BYTES = 1 << 20


def main() -> None:
    """Play what comes in, until nothing does."""
    log_to_stderr("warning", Format.JSON)
    fd = sys.stdin.fileno()
    imagined: Imagined | None = None
    reported = time.monotonic()
    fresh = False
    try:
        for line in _lines(fd):
            if line is not None:
                item = news.read(line)
                if isinstance(item, news.Begins):
                    imagined = Imagined(item)
                elif imagined is not None:
                    imagined.take(item)
                fresh = True
            now = time.monotonic()
            if fresh and imagined is not None and now - reported >= REPORT_SECONDS:
                _report(imagined)
                reported, fresh = now, False
        if fresh and imagined is not None:
            _report(imagined)
    except BrokenPipeError:
        os._exit(0)  # the extender is no more: nobody reads, not even what is left in a buffer
    except Exception:
        log.exception("shadow_failed")
        raise SystemExit(1) from None


def _lines(fd: int) -> Iterator[bytes | None]:
    """Yield line by line, None where none has come for a while, until the input is closed."""
    rest = b""
    while True:
        ready, _, _ = select.select([fd], [], [], REPORT_SECONDS)
        if not ready:
            yield None
            continue
        read = os.read(fd, READ_BYTES)
        if not read:
            return
        *lines, rest = (rest + read).split(b"\n")
        with short_turns():
            yield from lines


def _report(imagined: Imagined) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(imagined.evidence()) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
