"""The pods that were read to have ended, or to be gone.

That counts whatever a late watch shows of them, and whoever asks for them late: a place held for
the next pod of an owner is not for the one that has left it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from extender.service.seam import Call, restores, restoring, some


class Ended:
    """UIDs of pods whose end was read; the oldest beyond the *limit* are forgotten."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._uids: dict[str, None] = {}

    def __contains__(self, uid: object) -> bool:
        return uid in self._uids

    def add(self, uid: str) -> None:
        """Take in that a pod was read to have ended, or that there is none of this UID."""
        self._uids[uid] = None
        while len(self._uids) > self._limit:
            del self._uids[next(iter(self._uids))]

    def restated(self) -> Iterator[Call]:
        """Return what leads here."""
        uids = self._uids.copy()
        return (restoring("Ended.restore", each) for each in some(uids))

    @restores
    def restore(self, uids: Collection[str]) -> None:
        """Take in whose end was read, after those that were told before."""
        self._uids.update(dict.fromkeys(uids))
