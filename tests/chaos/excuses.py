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
        self._left_out: set[str] = set()
        self._forsaken: set[str] = set()
        self._undone: set[str] = set()
        self._unmade: set[str] = set()
        self._failed: set[str] = set()

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
            self._left_out.discard(id)
            self._forsaken.discard(id)

    def written(self, node: str, by: str, *, anew: bool) -> None:
        """See a plan written *by* a replica, "" by hand; made *anew*, it lacks what it has not yet.

        Unless a replica has made it so that had read the one before: that is nobody's excuse.
        """
        for id, deleted in self._unplanned.items():
            if deleted.node != node or by in deleted.known_to:
                continue
            if anew:
                self._left_out.add(id)
                self._undone.add(id)
                self._unmade.add(id)
            if by and id in self._left_out:
                self._forsaken.add(id)

    def seen(self, ids: Collection[str], *, realized: Collection[str]) -> None:
        """See that an agent has seen a plan with entries of these ids, of which some are realized.

        What it says of others comes from before.
        """
        made = {*ids}.intersection(realized)
        self._undone.difference_update(ids)
        self._unmade.difference_update(made)
        for id in made:
            self._unrealized.pop(id, None)

    def failed(self, ids: Collection[str]) -> None:
        """See a pod fail that was to have these: its agent may not have them at this moment."""
        self._failed.update(self._unmade.intersection(ids))

    def in_good_faith(self, pod: Pod, sent: float, knew: Callable[[str, float], float]) -> bool:
        """Tell whether a Binding was *sent* before it was known that its plan had been deleted.

        *knew* tells when who sent it came to know that of an object, deleted at a time.
        """
        gone = [self._unrealized.get(each.id) for each in pod.decisions]
        return any(each is not None and sent <= knew(each.uid, each.at) for each in gone)

    def forsaken(self, id: str) -> bool:
        """Tell whether who had never read the plan of an entry has written the next, without it.

        Or whether its pod has failed while its agent had yet to make it anew, which takes its time.
        """
        return id in self._forsaken or id in self._failed

    def unknown(self, id: str, by: str) -> bool:
        """Tell whether a plan made anew lacks an entry, and a replica had never read of that."""
        return id in self._left_out and by not in self._unplanned[id].known_to

    def undone(self, id: str) -> bool:
        """Tell whether a plan was made anew without an entry, and no agent has seen one with it.

        By hand, or by who had never read of it: its agent destroys what nobody has.
        """
        return id in self._undone
