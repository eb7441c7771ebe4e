"""Who is in which gang, and what the leader remembers of gangs that the cluster does not show."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from extender.request import Gang, Request
from extender.service.seam import UNHEARD, Call, Seam, restores, restoring, told
from extender.verbs.verdicts import Refused

Key = tuple[str, str]
"""Namespace and name of a gang."""


def key(gang: Gang) -> Key:
    """Return what tells a gang from others."""
    return gang.namespace, gang.name


class Enlisted:
    """The gangs of living pods: ``members`` has what each pod says of its gang, by UID.

    For a term: who has ``come`` to bind; the pods for which a Binding was ``posting``, unless it is
    certain that it came to nothing, and whether it is certain that it did not; the gangs ``lost``,
    whose places are to be given back; those for which there was ``no_room``, and why; and those
    that were ``left_out`` of the last plan, for it had others to look at.
    """

    def __init__(self, seam: Seam = UNHEARD) -> None:
        self.seam = seam
        self.members: dict[Key, dict[str, Gang]] = {}
        self._key_of: dict[str, Key] = {}
        self.come: dict[Key, set[str]] = {}
        self.posting: dict[Key, dict[str, bool]] = {}
        self.lost: set[Key] = set()
        self.no_room: dict[Key, Refused] = {}
        self.left_out: set[Key] = set()

    def enlist(self, request: Request) -> None:
        """Note the gang of a pod, if it is in one."""
        uid = request.pod.uid
        of = None if request.gang is None else key(request.gang)
        if self._key_of.get(uid, of) != of:
            self.leave(uid)  # what a pod says of its gang may be changed
        if request.gang is not None and of is not None:
            self._key_of[uid] = of
            self.members.setdefault(of, {})[uid] = request.gang

    def leave(self, uid: str) -> Key | None:
        """Forget a pod that is no more, and its gang with the last; return the gang."""
        of = self._key_of.pop(uid, None)
        if of is not None:
            del self.members[of][uid]
            if not self.members[of]:
                del self.members[of]
                self.over(of)
        return of

    @told
    def over(self, of: Key) -> None:
        """Forget what is remembered of a gang that holds nothing."""
        self.come.pop(of, None)
        self.posting.pop(of, None)
        self.no_room.pop(of, None)
        for marks in (self.lost, self.left_out):
            marks.discard(of)

    def remembers(self, of: Key) -> bool:
        """Tell whether there is anything to forget of a gang."""
        every = (self.come, self.posting, self.no_room, self.lost, self.left_out)
        return any(of in each for each in every)

    # What plans have found.

    @told
    def refuse(self, of: Key, why: Refused) -> None:
        """Note that a plan has no room for a gang."""
        self.left_out.discard(of)
        self.no_room[of] = why

    @told
    def leave_out(self, of: Key) -> None:
        """Note that a plan has not looked at a gang: it waits, or its refusal stands."""
        if of in self.no_room:
            self.left_out.discard(of)
        else:
            self.left_out.add(of)

    @told
    def welcome(self, of: Key) -> None:
        """Note that a plan has looked at a gang, and has room for it."""
        self.left_out.discard(of)
        self.no_room.pop(of, None)

    # The places of gangs, and their Bindings.

    @told
    def lose(self, of: Key) -> None:
        """Note that a gang's places are to be given back."""
        self.lost.add(of)

    @told
    def find(self, of: Key) -> None:
        """Note that they are not, after all."""
        self.lost.discard(of)

    @told
    def post(self, of: Key, uid: str) -> None:
        """Note that a member's Binding is about to be posted."""
        self.posting.setdefault(of, {}).setdefault(uid, False)

    @told
    def posted(self, of: Key, uid: str, *, bound: bool) -> None:
        """Note that a member's Binding has come through, or that it is certain that none has."""
        if bound:
            self.posting.setdefault(of, {})[uid] = True
        else:
            self.posting.get(of, {}).pop(uid, None)
            if not self.posting.get(of):
                self.posting.pop(of, None)

    @told
    def unposted(self, of: Key) -> None:
        """Note that no Binding of a gang is under way, nor has been: its members have no places."""
        self.posting.pop(of, None)

    def begin_term(self) -> None:
        """Forget what an earlier term remembered."""
        for of in tuple(self.members):
            self.over(of)

    # Going on from what was known elsewhere (``restating``).

    def restated(self) -> Iterator[Call]:
        """Return what leads here, but for who has come to bind: no answer rests on it."""
        every = tuple(each for members in self.members.values() for each in members.items())
        posting = tuple((of, *each) for of in self.posting for each in self.posting[of].items())
        marks = (
            ("Enlisted.lose", tuple(self.lost)),
            ("Enlisted.leave_out", tuple(self.left_out)),
        )
        refused = tuple(self.no_room.items())
        return chain(
            (restoring("Enlisted.restore", uid, gang) for uid, gang in every),
            (restoring("Enlisted.restore_posting", of, uid, bound) for of, uid, bound in posting),
            (restoring("Enlisted.refuse", of, why) for of, why in refused),
            (restoring(name, of) for name, gangs in marks for of in gangs),
        )

    @restores
    def restore(self, uid: str, gang: Gang) -> None:
        """Take in that a pod is in a gang."""
        self._key_of[uid] = key(gang)
        self.members.setdefault(key(gang), {})[uid] = gang

    @restores
    def restore_posting(self, of: Key, uid: str, bound: bool) -> None:
        """Take in that a member's Binding was posted, and whether it has come through."""
        self.posting.setdefault(of, {})[uid] = bound
