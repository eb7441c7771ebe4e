"""Counts what is written, and notes when: how much load there is, and which VM came when."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable

import msgspec

from tests.e2e.chaos.checker import GPU_NODES, PODS, Pod
from tests.e2e.chaos.history import Write

NODES = "minions/"  # what etcd's key of a Node has been called since before there were Nodes
COUNTED = (PODS, GPU_NODES, NODES)  # neither Leases nor Events: they are written without any load


class Times(msgspec.Struct):
    """When a pod was first seen, and seen bound; by the observer's clock, None for not yet."""

    created: float
    bound: float | None = None


class Census:
    """Sees one history, as it comes, at times of *clock* in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.times: dict[str, Times] = {}
        """By the pods' UIDs."""
        self.writes = 0
        self.last_write = clock()
        self._clock = clock
        self._uids: dict[str, str] = {}

    def see(self, write: Write, pod: Pod | None) -> None:
        """Take note of a write; *pod* is what was written, if it was a VM's."""
        if not write.key.startswith(COUNTED):
            return
        now = self._clock()
        self.writes += 1
        self.last_write = now
        if pod is not None:
            times = self.times.setdefault(pod.uid, Times(now))
            if pod.node and times.bound is None:
                times.bound = now

    def first_bound(self, created_after: float) -> float | None:
        """Return when first a pod was bound of those created after a time; None if none was."""
        newest_first = reversed(self.times.values())
        later = itertools.takewhile(lambda times: times.created >= created_after, newest_first)
        return min((times.bound for times in later if times.bound is not None), default=None)

    def bound_between(self, begin: float, end: float) -> int:
        """Count the pods bound in a time."""
        return sum(
            times.bound is not None and begin <= times.bound < end for times in self.times.values()
        )


class Meter:
    """The rate of a counter over the last *window* seconds, sampled by :meth:`read`."""

    def __init__(self, clock: Callable[[], float], window: float) -> None:
        self._clock = clock
        self._window = window
        self._samples: collections.deque[tuple[float, int]] = collections.deque()

    def read(self, count: int) -> float:
        """Take a sample and return the rate a second; 0 until a window has passed."""
        now = self._clock()
        self._samples.append((now, count))
        while len(self._samples) > 1 and self._samples[1][0] <= now - self._window:
            self._samples.popleft()
        begun, counted = self._samples[0]
        return (count - counted) / (now - begun) if now - begun >= self._window else 0.0
