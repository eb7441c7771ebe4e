"""How much of what was freed the C library keeps: little, or the start's lists stay resident.

By itself glibc raises its thresholds with the largest block that was freed, up to 32 and 64 MiB: a
page of a list is 10 MB, and all the next ones then lie in a heap that is not given back.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
MAPPED_FROM_BYTES = 1 << 20
"""From this size on a block is mapped, and given back when freed: above whatever the hooks need."""
KEPT_BYTES = 8 << 20


def bound() -> bool:
    """Fix glibc's thresholds for this process; tell whether its C library has any."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl gives all of it back anyway
        return False
    return all(
        mallopt(what, size)
        for what, size in (
            (_M_MMAP_THRESHOLD, MAPPED_FROM_BYTES),
            (_M_TRIM_THRESHOLD, KEPT_BYTES),
        )
    )
