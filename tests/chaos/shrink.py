"""Making a failing history short: whatever it fails without is left out."""

from __future__ import annotations

from collections.abc import Sequence

from tests.chaos.events import Event
from tests.chaos.story import Outcome, tell

MOST_TRIES = 400


def kind(broken: str) -> str:
    """Return of what kind a broken promise is, by what was told of it."""
    return broken.split(": ")[1]


def kinds(outcome: Outcome) -> frozenset[str]:
    """Return what kinds of promises were broken, such as "promised twice"."""
    return frozenset(kind(each) for each in outcome.broken)


def shrunk(
    seed: int,
    events: Sequence[Event],
    *,
    tries: int = MOST_TRIES,
    ranked: bool = False,
    moving: bool = False,
) -> tuple[Event, ...]:
    """Return as few of *events* as still break a promise of the same kind under *seed*.

    A pause before what is left out is kept, so that the rest happens when it did.
    """
    wanted = kinds(tell(seed, events, ranked=ranked, moving=moving))
    kept, size = tuple(events), max(1, len(events) // 2)
    while size and tries:
        start = 0
        while start < len(kept) and tries:
            candidate = _without(kept, start, start + size)
            tries -= 1
            if wanted & kinds(tell(seed, candidate, ranked=ranked, moving=moving)):
                kept = candidate
            else:
                start += size
        size = size // 2
    return kept


def _without(events: Sequence[Event], start: int, end: int) -> tuple[Event, ...]:
    pause = sum(event.after for event in events[start:end])
    rest = list(events[end:])
    if rest:
        first = rest[0]
        rest[0] = Event(first.after + pause, first.what, first.who, first.much)
    return (*events[:start], *rest)
