"""What may become of one GPU: who leaves it, and what it has room for then."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Iterator
from typing import NamedTuple

from extender.packing.bundles import Counts, bundles
from extender.packing.tables import Tables
from nodeagent.api.geometry import Occupancy, Placement

Instance = tuple[int, Placement]
"""A profile id and where it is."""


class Choice(NamedTuple):
    """Who leaves, as indices among those that may, and how many of each profile fit then."""

    leave: tuple[int, ...]
    room: Counts


@functools.lru_cache(maxsize=1 << 14)
def choices(
    tables: Tables,
    staying: tuple[Instance, ...],
    movable: tuple[Instance, ...],
    profiles: tuple[int, ...],
) -> tuple[Choice, ...]:
    """Return every choice that no other makes needless: more room, or less of it for fewer moves.

    Room for fewer is there where there is room for more, and is not listed.
    """
    found: list[Choice] = []
    rooms: dict[tuple[int, ...], tuple[Counts, ...]] = {}
    for size in range(len(movable) + 1):
        for leave in itertools.combinations(range(len(movable)), size):
            rest = (each for at, each in enumerate(movable) if at not in leave)
            state = tables.holding(itertools.chain(staying, rest))
            rooms[leave] = most_room(tables, state, profiles)
            # With one fewer leaving there is at least as much room as with any fewer.
            fewer = {each for less in _one_less(leave) for each in rooms[less]}
            for room in rooms[leave]:
                if room not in fewer and not any(_covers(each, room) for each in fewer):
                    found.append(Choice(leave, room))
    return tuple(found)


def _one_less(leave: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    return itertools.combinations(leave, len(leave) - 1) if leave else iter(())


@functools.lru_cache(maxsize=1 << 14)
def most_room(tables: Tables, state: Occupancy, profiles: tuple[int, ...]) -> tuple[Counts, ...]:
    """Return how many of each profile fit together, each way to which nothing can be added."""
    fitting = bundles(tables, state, tuple((each,) for each in profiles))
    return tuple(
        counts
        for counts in fitting
        if not any(
            (*counts[:at], counts[at] + 1, *counts[at + 1 :]) in fitting
            for at in range(len(profiles))
        )
    )


def _covers(more: Counts, less: Counts) -> bool:
    return all(map(operator.ge, more, less))
