"""Where a gang stands: from what is known of its members, and nothing else.

::

    GATHERING ──▶ COMPLETE ──▶ HALF ──▶ RESERVED ──▶ BEGUN
     members       all were     ▲ │      all have     one is
     are missing   filtered     └─┼───── a place      bound
                      ▲           │
                      └───────────┘ withdrawn: a write was refused, a member is gone,
                                    time is up, the process that wrote was killed

kube-scheduler filters pods one after the other, so the first members pass by before the last is
known: they are refused, and woken once the gang has its places in the plan. With all members known,
and not before, the gang is packed as one problem and written node by node. HALF is what lies
between two of these writes, and what a killed writer leaves: it is withdrawn, by its writer or by
whoever finds it. No member is bound before BEGUN; from then on a loss is an ordinary one.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

import msgspec


class Member(msgspec.Struct, frozen=True):
    """What is known of one member of a gang.

    ``filtered``: the nodes it may go to are known; ``reserved``: the plan has places for it.
    """

    size: int
    filtered: bool = False
    reserved: bool = False
    bound: bool = False


class Standing(Enum):
    """How far a gang has come."""

    GATHERING = "gathering"
    MALFORMED = "malformed"
    COMPLETE = "complete"
    HALF = "half"
    RESERVED = "reserved"
    BEGUN = "begun"


def standing(members: Iterable[Member]) -> Standing:
    """Return where the gang of these members stands; they are at least one.

    More members than the size are no fault: who is not among those reserved waits until one of them
    is bound, and is an ordinary pod then.
    """
    known = tuple(members)
    sizes = {each.size for each in known}
    reserved = sum(each.reserved for each in known)
    if any(each.bound for each in known):
        return Standing.BEGUN
    if reserved >= max(sizes):
        return Standing.RESERVED
    if reserved:
        return Standing.HALF
    if len(sizes) > 1:
        return Standing.MALFORMED
    if sum(each.filtered for each in known) >= max(sizes):
        return Standing.COMPLETE
    return Standing.GATHERING
