"""Chance that can be repeated anywhere: xorshift64*, seeded by splitting the 64-bit range.

Our own generator because published figures are reproduced with it; Python's would do as well.
"""

from __future__ import annotations

import math

_MASK = (1 << 64) - 1
_SPREAD = 0x9E3779B97F4A7C15
_MULTIPLIER = 2685821657736338717
_DISCARDED = 8


class Chance:
    """A stream of numbers that its seed determines."""

    def __init__(self, seed: int) -> None:
        self._state = (seed * _SPREAD + 77) & _MASK
        for _ in range(_DISCARDED):
            self.uniform()

    def uniform(self) -> float:
        """Return the next number, at least 0 and below 1."""
        s = self._state
        s ^= (s << 13) & _MASK
        s ^= s >> 7
        s ^= (s << 17) & _MASK
        self._state = s
        return ((s * _MULTIPLIER & _MASK) >> 11) / 9007199254740992.0  # 2**53

    def exponential(self) -> float:
        """Return the next number of an exponential distribution of mean 1."""
        return -math.log(1.0 - self.uniform())

    def normal(self) -> float:
        """Return the next number of a standard normal distribution (Box and Muller)."""
        radius = math.sqrt(-2.0 * math.log(1.0 - self.uniform()))
        return radius * math.cos(2.0 * math.pi * self.uniform())
