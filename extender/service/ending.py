"""Which pods are ending, and for how long they are waited for.

A VM may have hours to shut down. But a volume may be stuck, or its kubelet dead while the node's
agent lives: such a pod stays as it is for ever. So each is waited for as long as its own grace
lasts, by our own clock, from when this process first saw that it is to end. What time the pod, or
the API server, says that is does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from extender.service.ports import PodFacts
from extender.service.seam import Call, restores, restoring, some


class Ending:
    """By UID, since when pods were seen to be ending, on a *clock* in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}

    def seen(self, pod: PodFacts) -> None:
        """Take in a pod as it is now; what is to end does not come back from that."""
        if pod.deleting and pod.ref.uid not in self._since:
            self._since[pod.ref.uid] = self._clock()

    def gone(self, uid: str) -> None:
        """Take in that a pod is no more."""
        self._since.pop(uid, None)

    def awaited(self, pod: PodFacts, *, now: float) -> bool:
        """Tell whether a pod is ending, and has not had all of its grace yet."""
        since = self._since.get(pod.ref.uid)
        return since is not None and now - since < pod.grace_seconds

    def restated(self) -> Iterator[Call]:
        """Return what leads here."""
        since = self._since.copy()
        return (
            restoring("Ending.restore", *zip(*each, strict=True)) for each in some(since.items())
        )

    @restores
    def restore(self, uids: Collection[str], since: Collection[float]) -> None:
        """Take in since when each pod was seen to be ending."""
        self._since.update(zip(uids, since, strict=True))
