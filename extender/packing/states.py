"""What a policy distinguishes of one GPU: its occupancy, or the layout of its instances.

A layout is an occupancy that remembers where each instance begins and ends. It tells a GPU with one
large instance from one with four small ones: the first will be empty sooner.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from enum import StrEnum

import msgspec

from nodeagent.api.geometry import Geometry, Occupancy, Placement, Profile


class Key(StrEnum):
    """What tells two GPUs of one geometry apart."""

    OCCUPANCY = "occupancy"
    LAYOUT = "layout"


class Layout(Occupancy, frozen=True):
    """An occupancy with the placements that make it up, in order."""

    placements: tuple[Placement, ...] = ()


class Shape(msgspec.Struct, frozen=True, order=True):
    """A size in memory slices and the starts it may have; several profiles may share one."""

    size: int
    starts: tuple[int, ...]

    def free(self, mask: int) -> list[int]:
        """Return the windows, as masks, that *mask* leaves free."""
        window = (1 << self.size) - 1
        return [window << start for start in self.starts if not (window << start) & mask]

    def together(self, mask: int) -> int:
        """Return how many instances of the shape alone fit at once beside *mask*."""
        window, count = (1 << self.size) - 1, 0
        for start in sorted(self.starts):
            if not (window << start) & mask:
                count, mask = count + 1, mask | (window << start)
        return count


def shape(profile: Profile) -> Shape:
    """Return the shape of a profile."""
    return Shape(profile.size, profile.starts)


@functools.lru_cache(maxsize=256)
def shapes(geometry: Geometry) -> tuple[Shape, ...]:
    """Return the geometry's distinct shapes, the largest first."""
    return tuple(sorted({shape(profile) for profile in geometry.profiles}, reverse=True))


def empty(geometry: Geometry, key: Key) -> Occupancy:
    """Return the state of a GPU that holds nothing."""
    return geometry.empty if key is Key.OCCUPANCY else Layout(0, geometry.empty.counts)


def added(geometry: Geometry, state: Occupancy, profile_id: int, placement: Placement) -> Occupancy:
    """Return *state* with one more instance."""
    then = geometry.occupied(state, profile_id, placement)
    if isinstance(state, Layout):
        return Layout(then.mask, then.counts, tuple(sorted((*state.placements, placement))))
    return then


def holding(geometry: Geometry, key: Key, taken: Iterable[tuple[int, Placement]]) -> Occupancy:
    """Return the state of a GPU that holds each (profile id, placement) of *taken*."""
    total = empty(geometry, key)
    for profile_id, placement in taken:
        total = added(geometry, total, profile_id, placement)
    return total


def reachable(geometry: Geometry, key: Key = Key.OCCUPANCY) -> Iterator[Occupancy]:
    """Yield every state a GPU can come to, whatever comes and goes; the empty one first.

    Departures add none: what is left of a reachable state is reachable by arrivals alone.
    """
    start = empty(geometry, key)
    seen, frontier = {start}, [start]
    while frontier:
        now = frontier.pop()
        yield now
        for profile in geometry.profiles:
            for placement in geometry.legal(now, profile):
                then = added(geometry, now, profile.id, placement)
                if then not in seen:
                    seen.add(then)
                    frontier.append(then)
