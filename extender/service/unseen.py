"""The pods that filter asked about and the watch has not shown.

Either the watch is late, or the pod has no label for it, or it was gone before it was asked about:
of its end nobody will tell. kube-scheduler comes back with whom it still has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from extender.service.seam import Call, restores, restoring, some


class Unseen:
    """By UID, when each was last asked about; times on one clock, in seconds. At most *limit*."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._asked_at: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._asked_at)

    def asked(self, uid: str, *, now: float) -> None:
        """Note that a pod is asked about."""
        self._asked_at.pop(uid, None)
        self._asked_at[uid] = now

    def drop(self, uid: str) -> None:
        """Note that the watch has shown a pod, or told of its end."""
        self._asked_at.pop(uid, None)

    def over(self, *, since: float) -> Iterator[str]:
        """Yield and forget whom nobody asked about since then, and the oldest beyond the limit."""
        while self._asked_at:
            uid, at = next(iter(self._asked_at.items()))
            if at > since and len(self._asked_at) <= self._limit:
                return
            del self._asked_at[uid]
            yield uid

    def restated(self) -> Iterator[Call]:
        """Return what leads here."""
        asked = self._asked_at.copy()
        return (
            restoring("Unseen.restore", *zip(*each, strict=True)) for each in some(asked.items())
        )

    @restores
    def restore(self, uids: Collection[str], asked_at: Collection[float]) -> None:
        """Take in when each pod was last asked about, after those that were told before."""
        self._asked_at.update(zip(uids, asked_at, strict=True))
