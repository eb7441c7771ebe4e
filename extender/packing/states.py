"""What a policy distinguishes of one GPU: its occupancy, and more of what makes it up.

How many instances take the slices tells a GPU with one large instance from one with four small
ones: the first will be empty sooner. A layout remembers where each of them begins and ends.
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
    INSTANCES = "instances"
    LAYOUT = "layout"


class Counted(Occupancy, frozen=True):
    """An occupancy with the number of instances that make it up."""

    instances: int = 0


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
    match key:
        case Key.OCCUPANCY:
            return geometry.empty
        case Key.INSTANCES:
            return Counted(0, geometry.empty.counts)
        case Key.LAYOUT:
            return Layout(0, geometry.empty.counts)


def added(geometry: Geometry, state: Occupancy, profile_id: int, placement: Placement) -> Occupancy:
    """Return *state* with one more instance."""
    then = geometry.occupied(state, profile_id, placement)
    match state:
        case Counted():
            return Counted(then.mask, then.counts, state.instances + 1)
        case Layout():
            return Layout(then.mask, then.counts, tuple(sorted((*state.placements, placement))))
        case _:
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


def precedence(state: Occupancy) -> int:
    """Return which of two GPUs is taken first where a placement costs the same: the higher one.

    The fuller one; of GPUs as full, the one with more instances, where they are counted. With
    exponential lifetimes the last of n to leave does so after 1 + 1/2 + ... + 1/n mean lifetimes on
    average, so an instance that joins k others puts off by 1 / (k + 1) the time when its GPU is
    empty: the more there are, the less it matters. GPUs that will soon be whole again are left to
    become so, whatever the mix of demand.
    """
    instances = state.instances if isinstance(state, Counted) else 0
    return state.mask.bit_count() * _SLICE + instances


_SLICE = 1 << 7  # more than there are instances on a GPU
