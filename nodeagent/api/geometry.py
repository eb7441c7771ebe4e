"""A GPU's geometry: which profiles may sit where, and what GPU instances leave free.

Slices are bits: memory slice 0 is the lowest bit, overlap is ``&``. The tables come from the driver
(NVML's profile info and possible placements); nothing here knows any particular GPU.

On every known model the legal placements already bound the compute slices, so legality is judged by
memory slices and by ``max_instances`` alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cached_property, lru_cache
from typing import Annotated

import msgspec

MAX_MEMORY_SLICES = 16
"""The widest grid computed with; the widest known, of the RTX PRO 6000 Blackwell, has 12."""

# Bounds that hold for whatever is decoded: slices become bits, and a hostile one a huge number.
Start = Annotated[int, msgspec.Meta(ge=0, lt=MAX_MEMORY_SLICES)]
Size = Annotated[int, msgspec.Meta(ge=1, le=MAX_MEMORY_SLICES)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class Placement(msgspec.Struct, frozen=True, order=True, gc=False):
    """Where on the GPU a GPU instance sits, counted in memory slices."""

    start: Start
    size: Size

    @property
    def mask(self) -> int:
        """The covered memory slices as bits, slice 0 lowest."""
        return ((1 << self.size) - 1) << self.start

    @property
    def end(self) -> int:
        """The first memory slice after the placement."""
        return self.start + self.size


class Profile(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A MIG profile as one GPU's driver reports it.

    ``id`` is the driver's profile id (``info.id`` of ``nvmlDeviceGetGpuInstanceProfileInfo``, the
    ID column of ``nvidia-smi mig -lgip``): the stable key, while names change with the driver.
    ``starts`` and ``size`` are NVML's possible placements, in memory slices.
    """

    id: Count
    name: str
    compute_slices: Count
    size: Size
    starts: tuple[Start, ...]
    max_instances: Count
    memory_mib: Count | None = None

    @property
    def placements(self) -> tuple[Placement, ...]:
        """Every legal placement, in the order in which the driver lists the starts."""
        return _placements(self.starts, self.size)

    @property
    def fits_at_once(self) -> int:
        """How many GPU instances of this profile alone an empty GPU's placements could hold."""
        return _fits_at_once(self.starts, self.size)

    @property
    def limited(self) -> bool:
        """Whether ``max_instances`` forbids what the placements alone would allow (``+me``)."""
        return self.max_instances < self.fits_at_once


@lru_cache(maxsize=1024)  # of all models together there are under a hundred
def _placements(starts: tuple[int, ...], size: int) -> tuple[Placement, ...]:
    return tuple(Placement(start, size) for start in starts)


@lru_cache(maxsize=1024)
def _fits_at_once(starts: tuple[int, ...], size: int) -> int:
    count, end = 0, 0
    for start in sorted(starts):
        if start >= end:
            count, end = count + 1, start + size
    return count


class Occupancy(msgspec.Struct, frozen=True, order=True, gc=False, cache_hash=True):
    """All that a GPU's future depends on: which slices are taken, and the counters that bind.

    ``counts`` has one entry for each limited profile of the geometry, in the geometry's order.
    """

    mask: int
    counts: tuple[int, ...] = ()


class Geometry(msgspec.Struct, frozen=True, rename="camel", dict=True):
    """What a GPU's driver allows: its slices, and its profiles in the driver's order."""

    memory_slices: Size
    compute_slices: Count
    profiles: tuple[Profile, ...]

    @cached_property
    def hash(self) -> str:
        """A short content hash: equal geometries, and only they, share it."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:12]

    @cached_property
    def sound(self) -> bool:
        """Whether it can be computed with; thousands of nodes share one geometry, and ask once."""
        return not any(self.malformations())

    @cached_property
    def by_id(self) -> dict[int, Profile]:
        """The profiles by driver profile id."""
        return {profile.id: profile for profile in self.profiles}

    @cached_property
    def limited(self) -> tuple[int, ...]:
        """Ids of the profiles whose counters belong to the occupancy."""
        return tuple(profile.id for profile in self.profiles if profile.limited)

    @property
    def full_mask(self) -> int:
        """All memory slices as bits."""
        return (1 << self.memory_slices) - 1

    @property
    def empty(self) -> Occupancy:
        """The occupancy of a GPU that holds nothing."""
        return Occupancy(0, (0,) * len(self.limited))

    def legal(self, occupancy: Occupancy, profile: Profile) -> Iterator[Placement]:
        """Yield the placements at which *profile* may be created beside *occupancy*."""
        if profile.id in self.limited:
            taken = occupancy.counts[self.limited.index(profile.id)]
            if taken >= profile.max_instances:
                return
        for placement in profile.placements:
            if not placement.mask & occupancy.mask:
                yield placement

    def occupied(self, occupancy: Occupancy, profile_id: int, placement: Placement) -> Occupancy:
        """Return *occupancy* with a GPU instance of the profile added at *placement*.

        Counts it even where it is illegal: what exists on a GPU is taken, whoever made it.
        """
        counts = occupancy.counts
        if profile_id in self.limited:
            at = self.limited.index(profile_id)
            counts = (*counts[:at], counts[at] + 1, *counts[at + 1 :])
        return Occupancy(occupancy.mask | placement.mask, counts)

    def malformations(self) -> Iterator[str]:
        """Yield what is wrong with a reported geometry; nothing if it can be computed with."""
        if not 1 <= self.memory_slices <= MAX_MEMORY_SLICES:
            yield f"memorySlices {self.memory_slices} is not in 1..{MAX_MEMORY_SLICES}"
            return
        if len(self.by_id) != len(self.profiles):
            yield "two profiles share an id"
        for profile in self.profiles:
            if profile.size < 1 or not profile.starts:
                yield f"profile {profile.id} has no placement"
            elif any(p.start < 0 or p.end > self.memory_slices for p in profile.placements):
                yield f"profile {profile.id} reaches beyond slice {self.memory_slices - 1}"
