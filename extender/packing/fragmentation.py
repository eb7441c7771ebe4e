"""How useful the free slices of one GPU still are: the measures from which policies are made.

All count by *shape* (a size and its starts): profiles that share one, such as ``1g.10gb`` and
``1g.10gb+me``, count once.
"""

from __future__ import annotations

from collections.abc import Iterator

from extender.packing.states import Shape, shapes
from nodeagent.api.geometry import Geometry


def unusable(geometry: Geometry, mask: int) -> Iterator[tuple[Shape, int]]:
    """Yield for each shape how many free slices none of its legal placements covers (FGU, FGD)."""
    free = geometry.full_mask & ~mask
    for each in shapes(geometry):
        usable = 0
        for window in each.free(mask):
            usable |= window
        yield each, (free & ~usable).bit_count()


def blocked_windows(geometry: Geometry, mask: int, *, partly: bool = False) -> int:
    """Return MFI's fragmentation: the size of each blocked window, summed.

    A window (a legal placement of any shape that free slices suffice for) is blocked where any of
    it is taken; with *partly*, only where some of it is free too.
    """
    free = geometry.memory_slices - mask.bit_count()
    total = 0
    for each in shapes(geometry):
        if each.size > free:
            continue
        for start in each.starts:
            window = ((1 << each.size) - 1) << start
            taken = mask & window
            if taken and not (partly and taken == window):
                total += each.size
    return total


def capability(geometry: Geometry, mask: int) -> Iterator[tuple[Shape, int]]:
    """Yield for each shape how many of its placements are legal beside *mask* (CC)."""
    for each in shapes(geometry):
        yield each, len(each.free(mask))


def longest_free_run(geometry: Geometry, mask: int) -> int:
    """Return the length of the longest run of free slices."""
    longest = run = 0
    for index in range(geometry.memory_slices):
        run = 0 if mask >> index & 1 else run + 1
        longest = max(longest, run)
    return longest
