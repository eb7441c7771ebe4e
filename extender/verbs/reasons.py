"""What a verdict is: that a request fits, or why it does not.

Texts are for the person reading ``kubectl describe pod``. They are few and stable: no counts, times
or node names, for a text that varies between attempts makes kube-scheduler retry without end.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from functools import lru_cache

import msgspec

from extender.packing.choose import Choice
from extender.packing.spread import Spread
from extender.request import Wanted
from nodeagent.api import keys


class Code(StrEnum):
    """Why a node is refused; stable, for metrics and for programs."""

    NO_ROOM = "no-room"
    UNKNOWN_RESOURCE = "unknown-resource"
    NO_INVENTORY = "no-inventory"
    STALE = "stale"
    CORDONED = "cordoned"
    AGENT_FAILING = "agent-failing"
    UNSETTLED = "unsettled"
    MIG_DISABLED = "mig-disabled"
    UNHEALTHY = "unhealthy"
    STATIC_LAYOUT = "static-layout"
    UNMANAGED = "unmanaged"
    RIVAL = "rival"
    FOREIGN_INSTANCE = "foreign-instance"
    RESERVED_ELSEWHERE = "reserved-elsewhere"
    PLANNING = "planning"
    GANG_INCOMPLETE = "gang-incomplete"
    GANG_NO_ROOM = "gang-no-room"
    GANG_MALFORMED = "gang-malformed"
    PROFILE_NOT_ALLOWED = "profile-not-allowed"
    POOL_NOT_ALLOWED = "pool-not-allowed"
    NOT_IN_POOL = "not-in-pool"
    NOT_SHARED = "not-shared"
    OVER_CAP = "over-cap"
    HEADROOM = "headroom"


class Fits(msgspec.Struct, frozen=True, gc=False):
    """The request fits, best so."""

    choice: Choice


class Refused(msgspec.Struct, frozen=True, gc=False):
    """The request does not fit; evicting somebody would help only where ``code`` is no-room."""

    code: Code
    reason: str


Verdict = Fits | Refused


_LYING = {
    Spread.ANY: "",
    Spread.SAME: f" on one GPU, as {keys.SPREAD_ANNOTATION} asks",
    Spread.DISTINCT: f" on distinct GPUs, as {keys.SPREAD_ANNOTATION} asks",
}


@lru_cache(maxsize=1024)  # said of every full node, of as many things as there are classes
def no_room(wanted: Wanted, spread: Spread = Spread.ANY) -> Refused:
    """Refuse for want of room: what is asked for always reads the same."""
    together = " together with ".join(
        name if count == 1 else f"{count} x {name}" for name, count in Counter(wanted).items()
    )
    return Refused(Code.NO_ROOM, f"vGPU: no free placement for {together}{_LYING[spread]}")
