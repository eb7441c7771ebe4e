"""What became of each pod of a record under a policy."""

from __future__ import annotations

import msgspec

from extender.replay.meter import Meter
from extender.replay.recorded import Departure, Outcome, Place


class Fate(msgspec.Struct, gc=False):
    """One pod's story. ``asked_at`` is when it was first decided about, None if it never was.

    ``refused`` is why not then, "" if it was placed at once; ``placed_at`` is None if it never was.
    Times are seconds since the record begins.
    """

    asked_at: float | None = None
    refused: str = ""
    placed_at: float | None = None
    places: tuple[Place, ...] = ()
    ended_at: float | None = None


class Played(msgspec.Struct, frozen=True):
    """A replay: the ``fates`` are those of the record's arrivals, in their order."""

    policy: str
    version: str
    fates: tuple[Fate, ...]
    meter: Meter
    until: float


def outcomes(played: Played, uids: tuple[str, ...]) -> tuple[Outcome, ...]:
    """Return what was decided, in the order of time, as a record tells it."""
    found = []
    for number, (uid, fate) in enumerate(zip(uids, played.fates, strict=True)):
        if fate.refused and fate.asked_at is not None:
            found.append((fate.asked_at, number, Outcome(fate.asked_at, uid, (), fate.refused)))
        if fate.placed_at is not None:
            found.append((fate.placed_at, number, Outcome(fate.placed_at, uid, fate.places)))
    return tuple(each for *_, each in sorted(found, key=lambda each: each[:2]))


def departures(played: Played, uids: tuple[str, ...]) -> tuple[Departure, ...]:
    """Return when pods left, in the order of time, as a record tells it."""
    ended = [
        (fate.ended_at, number, Departure(fate.ended_at, uid))
        for number, (uid, fate) in enumerate(zip(uids, played.fates, strict=True))
        if fate.ended_at is not None
    ]
    return tuple(each for *_, each in sorted(ended, key=lambda each: each[:2]))
