"""How long VMs wait for a place before they give up, as far as those tell that live had none.

One that live was refused either gives up, or has its place after a while: then it would have waited
that long at least. Of both it is worked out which share would still wait after how long (Kaplan and
Meier 1958), and from that, how long one waits that waits in imagination only.
"""

from __future__ import annotations

import math
from collections import deque

LATELY = 256
"""Of those that were refused live, so many count that were last."""

_TURNS = 61
"""Shares of the waiting that are taken in turns, far apart from one to the next: a prime."""

_STRIDE = 23


class Patience:
    """Learns from who waits live; all is in seconds."""

    def __init__(self) -> None:
        self._waits: deque[tuple[float, bool]] = deque(maxlen=LATELY)
        self._turn = 0

    def waited(self, seconds: float, *, gave_up: bool) -> None:
        """Take in how long somebody waited live, until they gave up, or had their place."""
        self._waits.append((seconds, gave_up))

    def lasts(self, waited: float) -> float:
        """Return how long somebody waits in all who has *waited* so long, infinite: for ever.

        Of many who ask, each is told another length, spread as those are that were seen.
        """
        self._turn = (self._turn + _STRIDE) % _TURNS
        share = (self._turn + 0.5) / _TURNS
        left, still = len(self._waits), 1.0
        for seconds, gave_up in sorted(self._waits):
            if gave_up and seconds > waited:
                still *= 1.0 - 1.0 / left
                if still <= share:
                    return seconds
            left -= 1
        return math.inf
