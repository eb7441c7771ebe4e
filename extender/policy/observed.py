"""What has been asked for lately: counts that fade."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec

from extender.policy.values import Shares

EXPECTED_REQUESTS = 50.0
"""What somebody expects counts as much as so many recent requests: a few hundred outweigh it."""


def distance(one: Shares, other: Shares) -> float:
    """Return which share of the requests would have to be others, from 0 to 1.

    >>> distance((("7g", 0.5), ("1g", 0.5)), (("1g", 1.0),))
    0.5
    """
    first, second = dict(one), dict(other)
    names = first.keys() | second.keys()
    return sum(abs(first.get(name, 0.0) - second.get(name, 0.0)) for name in sorted(names)) / 2


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

    def as_of(self, now: float) -> ObservedMix:
        """Return the same mix with its counts as of *now*."""
        at = max(now, self.at)
        return ObservedMix(self.half_life, at, MappingProxyType(self._faded(now)))

    def weight(self, *, now: float) -> float:
        """Return how many recent requests the mix amounts to."""
        return sum(self._faded(now).values())

    def shares(
        self, known: Sequence[str], expected: Mapping[str, float] = MappingProxyType({})
    ) -> Shares:
        """Return the share of each *known* profile, as if each had been asked for once more.

        So what has not been asked for yet is not taken to be impossible. With an *expected* mix
        (weights by name), as if :data:`EXPECTED_REQUESTS` had been asked for by that, instead.
        """
        total = sum(expected.get(name, 0.0) for name in known)
        more = {
            name: EXPECTED_REQUESTS * expected.get(name, 0.0) / total if total else 1.0
            for name in known
        }
        smoothed = {name: self.counts.get(name, 0.0) + more[name] for name in known}
        total = sum(smoothed.values())
        return tuple((name, count / total) for name, count in smoothed.items())

    def _faded(self, now: float) -> dict[str, float]:
        fading = math.exp2(-max(0.0, now - self.at) / self.half_life)
        return {name: count * fading for name, count in self.counts.items()}
