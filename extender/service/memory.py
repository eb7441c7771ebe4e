"""What of the demand outlives a process: passed from leader to leader as a note on their Lease.

The leader may write its Lease anyway, and writes it every other second: the note goes with one of
these writes every few minutes, and with the last. So no permission is needed for it, only who leads
can leave one, and whoever leads next has read it before it answers. It is JSON of a version of its
own; one that cannot be read, or makes no sense, is left aside with a warning and written over.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Annotated

import msgspec
import structlog

from extender.policy.observed import ObservedMix
from extender.service.demand import HALF_LIFE_SECONDS, Demand
from extender.simulation.history import MOST_PERIODS, MOST_PROFILES, History
from nodeagent.api import rfc3339

log = structlog.get_logger()

VERSION = 1

KEEP_SECONDS = 300.0
"""Between two notes: what a crash may lose."""

LONGEST = 16_384
"""Characters; what we write ourselves is some 150 for each profile, and at most half of this."""

FAINT = 0.01
"""Requests: a count that has faded below says nothing any more."""

LONGEST_NAME = 63
"""Characters of a profile's name; whoever reports a longer one is not believed."""

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_NAME)]
_Weight = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
_Number = Annotated[int, msgspec.Meta(ge=0, le=10**7)]


class UnreadableNote(Exception):
    """What stands there is no note of this version; the message says why."""


class _Note(msgspec.Struct, frozen=True):
    """The note as JSON: counts of the mix as of the time ``at``, and days of what was wanted."""

    version: int
    at: str
    mix: dict[_Name, _Weight]
    days: tuple[_Number, ...] = ()
    wanted: dict[_Name, tuple[_Number, ...]] = {}


class _Version(msgspec.Struct, frozen=True):
    version: int


class Memory:
    """Tells of a *demand* in notes, and takes in what another leader has told.

    *clock* is monotonic, as the demand's; *utc_now* is what different machines have in common.
    """

    def __init__(
        self, demand: Demand, *, clock: Callable[[], float], utc_now: Callable[[], datetime]
    ) -> None:
        self._demand = demand
        self._clock = clock
        self._utc_now = utc_now
        self._kept = ""
        self._kept_at = -math.inf

    def recall(self, note: str) -> None:
        """Go on from what the leader before has left, "" if nothing; one's own is known already."""
        if not note or note == self._kept:
            return
        try:
            mix, history = read(note, now=self._clock(), at=self._utc_now())
        except UnreadableNote as error:
            log.warning("demand_note_ignored", error=str(error))
            return
        self._demand.mix, self._demand.history = mix, history
        self._kept, self._kept_at = note, self._clock()
        weight = mix.weight(now=self._clock())
        log.info("demand_recalled", weight=round(weight), days=len(history.periods))

    def due(self) -> str | None:
        """Return a note if it is time to leave one, None if not, or if there is nothing to tell."""
        if self._clock() - self._kept_at < KEEP_SECONDS or not self._demand.mix.counts:
            return None
        return self.told()

    def told(self) -> str:
        """Return a note of how the demand is now."""
        demand = self._demand
        return write(demand.mix, demand.history, now=self._clock(), at=self._utc_now())

    def put_off(self) -> None:
        """Try no other note for a while: it may be why a write of the Lease was refused."""
        self._kept_at = self._clock()

    def kept(self, note: str) -> None:
        """Take in that a note was left."""
        self._kept, self._kept_at = note, self._clock()


def write(mix: ObservedMix, history: History, *, now: float, at: datetime) -> str:
    """Return a note; *now* is the mix's time, and *at* the same moment by the calendar."""
    counts = sorted(mix.as_of(now).counts.items(), key=lambda each: (-each[1], each[0]))
    note = _Note(
        VERSION,
        rfc3339.microseconds(at),
        {
            name: round(count, 3)
            for name, count in counts[:MOST_PROFILES]
            if count >= FAINT and len(name) <= LONGEST_NAME
        },
        history.periods,
        {name: row for name, row in history.wanted.items() if len(name) <= LONGEST_NAME},
    )
    return msgspec.json.encode(note).decode()


def read(note: str, *, now: float, at: datetime) -> tuple[ObservedMix, History]:
    """Return the mix and the history of a note; *now* and *at* as for :func:`write`.

    A note from the future is as of now: clocks differ.

    Raises:
        UnreadableNote: saying why.
    """
    if len(note) > LONGEST:
        raise UnreadableNote(f"{len(note)} characters, more than {LONGEST}")
    try:
        version = msgspec.json.decode(note, type=_Version).version
        if version != VERSION:
            raise UnreadableNote(f"version {version}, this is {VERSION}")
        found = msgspec.json.decode(note, type=_Note)
        written = datetime.fromisoformat(found.at)
    except (msgspec.MsgspecError, ValueError) as error:
        raise UnreadableNote(str(error)) from error
    if written.tzinfo is None:
        raise UnreadableNote(f"{found.at} has no time zone")
    if len(found.mix) > MOST_PROFILES or len(found.wanted) > MOST_PROFILES:
        raise UnreadableNote(f"more than {MOST_PROFILES} profiles")
    if len(found.days) > MOST_PERIODS or list(found.days) != sorted(set(found.days)):
        raise UnreadableNote(f"days are not at most {MOST_PERIODS}, one after the other")
    if any(len(row) != len(found.days) for row in found.wanted.values()):
        raise UnreadableNote("a profile has not one number for each day")
    age = max(0.0, (at.astimezone(UTC) - written).total_seconds())
    return (
        ObservedMix(HALF_LIFE_SECONDS, now - age, MappingProxyType(found.mix)),
        History(found.days, found.wanted),
    )
