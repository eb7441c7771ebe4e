"""What nobody can keep whose plan somebody has deleted: but that alone.

What excuses is tied to the entries that there were at that moment, by their ids. What is promised
afterwards is judged in full, on the same node as on any other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

from tests.chaos.pods import Pod


class _Deleted(msgspec.Struct, frozen=True):
    """The plan that an entry went with: whose, its object's UID, when, and who had read it then."""

    node: str
    uid: str
    at: float
    known_to: frozenset[str]


class Excuses:
    """What has lost its plan by no fault of ours, in seconds of *clock*."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._unrealized: dict[str, _Deleted] = {}
        self._unplanned: dict[str, _Deleted] = {}
        self._forsaken: set[str] = set()

    def plan_deleted(
        self, node: str, uid: str, ids: Collection[str], known_to: Collection[str]
    ) -> None:
        """See a plan deleted by hand, with entries of these ids, that some replicas have read."""
        deleted = _Deleted(node, uid, self._clock(), frozenset(known_to))
        self._unrealized.update(dict.fromkeys(ids, deleted))
        self._unplanned.update(dict.fromkeys(ids, deleted))

    def planned(self, ids: Collection[str]) -> None:
        """See that entries of these ids are in a plan, in whatever object."""
        for id in ids:
            self._unplanned.pop(id, None)
            self._forsaken.discard(id)

    def made_anew(self, node: str, by: str) -> None:
        """See a plan made anew *by* a replica; what it does not have by now is not written."""
        self._forsaken.update(
            id
            for id, deleted in self._unplanned.items()
            if deleted.node == node and by not in deleted.known_to
        )

    def realized(self, ids: Collection[str]) -> None:
        """See that entries of these ids are told to be realized, in whatever object."""
        for id in ids:
            self._unrealized.pop(id, None)

    def in_good_faith(self, pod: Pod, sent: float, knew: Callable[[str, float], float]) -> bool:
        """Tell whether a Binding was *sent* before it was known that its plan had been deleted.

        *knew* tells when who sent it came to know that of an object, deleted at a time.
        """
        gone = [self._unrealized.get(each.id) for each in pod.decisions]
        return any(each is not None and sent <= knew(each.uid, each.at) for each in gone)

    def forsaken(self, id: str) -> bool:
        """Tell whether the plan of an entry was made anew by who had never read it, without it."""
        return id in self._forsaken
