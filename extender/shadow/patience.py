"""How long VMs wait for a place before they give up, as far as those tell that live had none.

One that live was refused either gives up, or has its place after a while, or waits still: then it
would have waited that long at least. Of all of them it is worked out which share would still wait
after how long (Kaplan and Meier 1958), and from that, how long one waits that waits in imagination
only.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque

LATELY = 256
"""Of those that were refused live, so many count that were last."""

_TURNS = 61
"""Shares of the waiting that are taken in turns, far apart from one to the next: a prime."""

_STRIDE = 23


class Patience:
    """Learns from who waits live; all is in seconds.

    Of those that wait still, as of those that waited, so many count that came last.
    """

    def __init__(self) -> None:
        self._waits: deque[tuple[float, bool]] = deque(maxlen=LATELY)
        self._still: OrderedDict[str, float] = OrderedDict()
        self._turn = 0

    def waits(self, uid: str, at: float) -> None:
        """Take in that somebody waits live since a time."""
        self._still[uid] = at
        while len(self._still) > LATELY:
            self._still.popitem(last=False)

    def waited(self, uid: str, seconds: float, *, gave_up: bool) -> None:
        """Take in how long somebody waited live, until they gave up, or had their place."""
        self._still.pop(uid, None)
        self._waits.append((seconds, gave_up))

    def lasts(self, waited: float, now: float) -> float:
        """Return how long somebody waits in all who has *waited* so long, infinite: for ever.

        Of many who ask, each is told another length, spread as those are that were seen.
        """
        self._turn = (self._turn + _STRIDE) % _TURNS
        share = (self._turn + 0.5) / _TURNS
        waits = [*self._waits, *((now - since, False) for since in self._still.values())]
        left, still = len(waits), 1.0
        for seconds, gave_up in sorted(waits, key=_ends_first):
            if gave_up and seconds > waited:
                still *= 1.0 - 1.0 / left
                if still <= share:
                    return seconds
            left -= 1
        return math.inf


def _ends_first(wait: tuple[float, bool]) -> tuple[float, bool]:
    """Let those that gave up come before those that would have waited as long, or longer."""
    seconds, gave_up = wait
    return seconds, not gave_up
