"""When processes came to know what has become of GpuNodes, those that were deleted above all.

A watch tells it late, or never, and then a list does: whatever a process does before, it does in
good faith.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection


class Hearsay:
    """What processes were told of GpuNodes; times are in seconds of one clock."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], float] = {}
        self._listed: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._heard: dict[tuple[str, str], list[tuple[float, int]]] = defaultdict(list)

    def told(self, process: str, uid: str, *, now: float) -> None:
        """See a watch tell a process that the object of a UID is no more."""
        self._told.setdefault((process, uid), now)

    def heard(self, process: str, node: str, version: int, *, now: float) -> None:
        """See a watch bring a process a version of a node's GpuNode."""
        self._heard[process, node].append((now, version))

    def listed(self, process: str, *, asked: float, now: float) -> None:
        """See a process get a list of all that it has asked for at a time."""
        self._listed[process].append((asked, now))

    def knew(self, process: str, uid: str, deleted: float) -> float:
        """Return when a process came to know of a deletion that was made at a time."""
        told = self._told.get((process, uid), float("inf"))
        return min([told, *(came for asked, came in self._listed[process] if asked >= deleted)])

    def last(self, process: str, node: str, by: float) -> tuple[int, float]:
        """Return what a process has read of a node's GpuNode at the least *by* a time.

        That is the newest version that a watch has brought it, 0 if none, and when it had asked for
        a list that it had got.
        """
        versions = (version for at, version in self._heard[process, node] if at <= by)
        asked = (asked for asked, came in self._listed[process] if came <= by)
        return max(versions, default=0), max(asked, default=float("-inf"))

    def informed(self, processes: Collection[str]) -> frozenset[str]:
        """Return those that have ever had a list."""
        return frozenset(each for each in processes if self._listed.get(each))
