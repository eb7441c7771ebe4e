"""How long a VM stays that has its place in imagination only: as long as another like it.

A VM that has its place live, and in the shadow, stays as long as it does live. One that the shadow
has a place for while live it was refused may give up, or begin much later: of it that is not known.
It stays as long as one of those that wanted the same and had their places before it, whenever those
are known to have left: they may have been placed first, and so leave first. So no stay is guessed
from those alone that have ended, which are the short ones.
"""

from __future__ import annotations

from collections import OrderedDict, deque

import msgspec

from extender.request import Wanted

LATELY = 32
"""Of those that wanted the same, so many that were placed last take turns."""

MOST_WANTED = 1_000
"""Kinds of wishes remembered; of those that were not met for longest none is a twin."""


class Twin(msgspec.Struct):
    """A VM that has, or had, its place live: how long it stayed, None while it does.

    ``followers`` stay as long: by number, with when they had their places, in seconds; as many as
    are known to be there still.
    """

    stay: float | None = None
    followers: dict[int, float] = {}


class Twins:
    """Those that have had their places live, by what they wanted."""

    def __init__(self) -> None:
        self._lately: OrderedDict[Wanted, deque[Twin]] = OrderedDict()
        self._any: deque[Twin] = deque(maxlen=LATELY)
        self._there: dict[str, Twin] = {}
        self._followed: dict[int, Twin] = {}

    def placed(self, wanted: Wanted, uid: str) -> None:
        """Take in that a VM has its place live."""
        twin = self._there[uid] = Twin()
        self._lately.setdefault(wanted, deque(maxlen=LATELY)).append(twin)
        self._lately.move_to_end(wanted)
        self._any.append(twin)
        while len(self._lately) > MOST_WANTED:
            self._lately.popitem(last=False)

    def follow(self, wanted: Wanted, number: int, at: float) -> tuple[bool, float | None]:
        """Let a VM that has its place from a time on stay as long as another.

        Return whether there is one, and when it leaves, if that is known. Where none that wanted
        the same has had its place, one that wanted anything else tells.
        """
        lately = self._lately.get(wanted) or self._any
        if not lately:
            return False, None
        twin = lately[0]
        lately.rotate(-1)
        if twin.stay is None:
            self.follows_no_more(number)
            twin.followers[number] = at
            self._followed[number] = twin
            return True, None
        return True, at + twin.stay

    def follows_no_more(self, number: int) -> None:
        """Take in that a VM has left, or goes by its own stay by now."""
        twin = self._followed.pop(number, None)
        if twin is not None:
            del twin.followers[number]

    def left(self, uid: str, stay: float) -> list[tuple[int, float]]:
        """Take in how long a VM stayed; return who follows it, and when they leave."""
        twin = self._there.pop(uid, None)
        if twin is None:
            return []
        twin.stay = stay
        followers, twin.followers = twin.followers, {}
        for number in followers:
            del self._followed[number]
        return [(number, since + stay) for number, since in followers.items()]
