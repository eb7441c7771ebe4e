"""What a reset, a reboot or somebody's hand has taken from entries, and for how long that excuses.

What was taken from under a pod that had it comes back to nobody: that pod is excused for good. An
agent makes anew whatever else was: once it has made it, looked, and told that it is realized, the
entry is judged like any other. What it told of an earlier look, which may arrive afterwards, says
nothing about that; nor does what it says again while its driver does not answer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable

import msgspec

from nodeagent.api import keys
from nodeagent.api.gpunode import Inventory
from tests.chaos.pods import Pod

LINGERS_SECONDS = 15.0  # what an agent has yet to find out is told by then
NEVER = float("inf")


class _Gone(msgspec.Struct):
    """When an entry's GPU instance went, when it was made anew, and when that was told."""

    at: float
    made: float = NEVER
    until: float = NEVER


class Upheavals:
    """What was upset by no fault of ours, in seconds of *clock*; entries are known by their ids."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._upset: dict[str, float] = {}
        self._gone: dict[str, list[_Gone]] = defaultdict(list)
        self._had: set[str] = set()
        self._looks: dict[str, list[float]] = defaultdict(list)

    def upset(self, gpus: Iterable[str], gone: Iterable[str], had: Iterable[str]) -> None:
        """See these GPUs upset: what entries stand for is *gone*, from under a pod that *had* it.

        Each of *had* is one of *gone*.
        """
        self._upset.update(dict.fromkeys(gpus, self._clock()))
        self._had.update(had)
        for id in gone:
            if not self.covers(id):
                self._gone[id].append(_Gone(self._clock()))
            self._gone[id][-1].made = NEVER

    def looked(self, node: str) -> None:
        """See the agent of a node look at its GPUs."""
        self._looks[node].append(self._clock())

    def made(self, id: str) -> None:
        """See an agent make a GPU instance for an entry."""
        if self.covers(id):
            self._gone[id][-1].made = self._clock()

    def told(self, node: str, status: Inventory, sent: float) -> None:
        """See what was told of a node, and when that was *sent*."""
        looks = self._looks[node]
        at = bisect_right(looks, sent)
        if not at or in_trouble(status):
            return
        for id in (each.id for each in status.realized):
            if id not in self._had and self.covers(id) and looks[at - 1] >= self._gone[id][-1].made:
                self._gone[id][-1].until = sent

    def calm(self, gpu: str) -> bool:
        """Tell whether a GPU has been left alone for long enough for its agent to know it."""
        return self._clock() - self._upset.get(gpu, float("-inf")) > LINGERS_SECONDS

    def covers(self, id: str, *, at: float | None = None) -> bool:
        """Tell whether what an entry stands for may have been gone at a time, now if none is given.

        What was sent at a time may have been decided just before that was told.
        """
        if at is None:
            return bool(self._gone.get(id)) and self._gone[id][-1].until == NEVER
        return any(each.at <= at <= each.until for each in self._gone.get(id, ()))

    def touched(self, pod: Pod, *, at: float) -> bool:
        """Tell whether any of what a pod was given may have been gone at a time."""
        return any(self.covers(each.id, at=at) for each in pod.decisions)


def in_trouble(status: Inventory) -> bool:
    """Tell whether an agent says again what it knew before its driver ceased to answer."""
    return any(
        (each.type, each.status, each.reason) == (keys.READY, "False", keys.DRIVER_UNAVAILABLE)
        for each in status.conditions
    )
