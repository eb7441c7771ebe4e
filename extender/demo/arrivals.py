"""Arrivals and departures in compressed time: Poisson arrivals, exponential lifetimes of mean 1."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Mapping

import msgspec

from nodeagent.api.geometry import Geometry


class Arrival(msgspec.Struct, frozen=True):
    """A VM that asks for one GPU instance; times are in mean lifetimes."""

    index: int
    profile_id: int
    at: float
    until: float


def arrivals(
    count: int,
    mix: Mapping[int, float],
    geometry: Geometry,
    *,
    total_slices: int,
    load: float,
    seed: int,
) -> Iterator[Arrival]:
    """Yield *count* VMs that would occupy *load* of *total_slices* if none were refused."""
    chance = random.Random(seed)
    profiles, weights = list(mix), list(mix.values())
    mean_size = sum(geometry.by_id[profile].size * share for profile, share in mix.items())
    rate = load * total_slices / mean_size
    now = 0.0
    for index in range(count):
        now += chance.expovariate(rate)
        (profile,) = chance.choices(profiles, weights)
        yield Arrival(index, profile, now, now + chance.expovariate(1.0))


class Departures:
    """The VMs that run, by the time they leave."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []

    def add(self, vm: Arrival) -> None:
        """Note when a placed VM leaves."""
        heapq.heappush(self._heap, (vm.until, vm.index))

    def until(self, time: float) -> Iterator[int]:
        """Yield, once, the VMs that leave by *time*, in order."""
        while self._heap and self._heap[0][0] <= time:
            yield heapq.heappop(self._heap)[1]
