"""For how long this process may answer the hooks and write."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from extender.service.seam import UNHEARD, Call, Seam, restoring, told

NOT_LEADING = "vGPU: this extender does not lead"


class Tenure:
    """Asked before every answer and before every write; ``clock`` is monotonic, in seconds.

    It is a moment, not a flag: a process that was stopped, or whose event loop was late, finds out
    by its clock that its time is over, even before anybody could tell it. ``leader`` is who leads,
    as far as this process has seen; "" if nobody does.
    """

    def __init__(
        self, clock: Callable[[], float], *, until: float = math.inf, seam: Seam = UNHEARD
    ) -> None:
        self.seam = seam
        self._clock = clock
        self._until = until
        self.leader = ""

    @property
    def seconds_left(self) -> float:
        """How much time is left; 0 or less: none."""
        return self._until - self._clock()

    @told
    def hold(self, *, until: float) -> None:
        """Answer and write until then."""
        self._until = until

    @told
    def end(self) -> None:
        """Answer and write no more."""
        self._until = -math.inf

    def why_not(self) -> str:
        """Return why this process may not answer, "" if it may: always the same words."""
        return "" if self.seconds_left > 0 else NOT_LEADING

    def restated(self) -> Sequence[Call]:
        """Return what leads here; whoever has led without an end from the start, does so."""
        if self._until == math.inf:
            return ()
        if self._until == -math.inf:
            return (restoring("Tenure.end"),)
        return (restoring("Tenure.hold", until=self._until),)
