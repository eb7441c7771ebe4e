"""What has been asked for lately: counts that fade."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from extender.policy.values import Shares


class ObservedMix(msgspec.Struct, frozen=True):
    """Requests by profile name, each counting half as much after ``half_life`` seconds.

    ``counts`` are as of the time ``at``.
    """

    half_life: float
    at: float = 0.0
    counts: Mapping[str, float] = MappingProxyType({})

    def after(self, profile: str, *, now: float) -> ObservedMix:
        """Return the mix with one more request; one that comes late counts as of ``at``."""
        counts = self._faded(now)
        counts[profile] = counts.get(profile, 0.0) + 1.0
        return ObservedMix(self.half_life, max(now, self.at), MappingProxyType(counts))

    def weight(self, *, now: float) -> float:
        """Return how many recent requests the mix amounts to."""
        return sum(self._faded(now).values())

    def shares(self, known: tuple[str, ...]) -> Shares:
        """Return the share of each *known* profile, as if each had been asked for once more.

        So what has not been asked for yet is not taken to be impossible.
        """
        smoothed = {name: self.counts.get(name, 0.0) + 1.0 for name in known}
        total = sum(smoothed.values())
        return tuple((name, count / total) for name, count in smoothed.items())

    def _faded(self, now: float) -> dict[str, float]:
        fading = math.exp2(-max(0.0, now - self.at) / self.half_life)
        return {name: count * fading for name, count in self.counts.items()}
