"""What a campaign has seen, and whether that is good."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from extender.server.description import HOOKS, REFUSALS

GROWTH_BYTES = 256 * 1024
GROWTH_BYTES_PER_REQUEST = 64
"""How much more Python memory may be in use after the last requests than before them.

Counted by tracemalloc, after the extender has forgotten the pods it was asked about, and the
garbage is collected: what then remains is kept for ever. The requests before have filled every
cache. With 2,000 to 8,000 requests it was 130 to 250 KiB, most of it the interpreter's, and with
20,000 it was 467: what the rest is, is not known. A leak keeps a text or a dictionary of each
request, 100 bytes or more.
"""


class Verdict(msgspec.Struct):
    """Counts by answer, and in words what should not have been."""

    seed: int
    sent: int = 0
    described: int = 0
    statuses: Counter[int] = msgspec.field(default_factory=Counter)
    slowest_seconds: float = 0.0
    growth_bytes: int = 0
    wrong: list[str] = msgspec.field(default_factory=list)

    def answered(self, verb: str, status: int, body: bytes, asked: bytes) -> None:
        """Judge one answer."""
        self.statuses[status] += 1
        if status != 200:
            if status not in REFUSALS and status not in (404, 405):
                self.complain(f"{verb} was answered {status}", asked)
            return
        [answers] = [hook.answers for hook in HOOKS if hook.verb == verb] or [None]
        try:
            msgspec.json.decode(body, type=answers)
        except (msgspec.DecodeError, TypeError) as error:
            self.complain(f"{verb} answered something else: {error}", asked)

    def complain(self, what: str, asked: bytes = b"") -> None:
        """Note what should not have been, with what had been asked."""
        self.wrong.append(f"{what}, asked {asked[:300]!r}" if asked else what)

    def results(self) -> dict[str, Any]:
        """Return the same for machines; status 0 is a request that was cut off, as it asked for."""
        return {
            "seed": self.seed,
            "requests": self.sent,
            "by_schemathesis": self.described,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "slowest_ms": round(self.slowest_seconds * 1000, 1),
            "memory_growth_kib": round(self.growth_bytes / 1024, 1),
            "wrong": self.wrong,
        }

    def __str__(self) -> str:
        counts = ", ".join(f"{n} x {status}" for status, n in sorted(self.statuses.items()))
        lines = [
            f"{self.sent} hostile requests (seed {self.seed}), {self.described} of them by"
            f" schemathesis: {counts}",
            f"slowest answer {self.slowest_seconds * 1000:.0f} ms,"
            f" memory growth over the second half {self.growth_bytes / 1024:.0f} KiB",
            *(f"WRONG: {each}" for each in self.wrong[:20]),
            "verdict: " + (f"{len(self.wrong)} wrong" if self.wrong else "all well"),
        ]
        return "\n".join(lines)
