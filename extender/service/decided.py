"""What prioritize found when it chose a pod's node, for who asks later why the pod is there."""

from __future__ import annotations

from collections import OrderedDict

from extender.explain.explanation import Then


class Decided:
    """By pod UID, the last decision on each of *limit* pods; the oldest are forgotten first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_pod: OrderedDict[str, Then] = OrderedDict()

    def add(self, uid: str, found: Then) -> None:
        """Keep a decision."""
        self._by_pod[uid] = found
        self._by_pod.move_to_end(uid)
        while len(self._by_pod) > self._limit:
            self._by_pod.popitem(last=False)

    def get(self, uid: str) -> Then | None:
        """Return the last decision on a pod, None if none is remembered."""
        return self._by_pod.get(uid)
