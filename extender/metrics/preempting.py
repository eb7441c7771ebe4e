"""What is evicted for pods of higher priority."""

from __future__ import annotations

from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter


class Preempted(StrEnum):
    """How a preemption ended."""

    PLACED = "placed"
    GIVEN_UP = "given-up"


class Evicted(StrEnum):
    """What became of an eviction."""

    EVICTED = "evicted"
    REFUSED = "refused"


class Preemptions:
    """Counts preemptions as they end, and evictions as they are asked for."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ended = Counter(
            "tangram_preemptions",
            "Preemptions by how they ended: the pod has its place, or it was given up.",
            ("outcome",),
            registry=registry,
        )
        self._evictions = Counter(
            "tangram_evictions",
            "Evictions of pods for pods of higher priority, by the API server's answer.",
            ("outcome",),
            registry=registry,
        )
        for ended in Preempted:  # a rate of what never happened is 0, not absent
            self._ended.labels(ended.value)
        for evicted in Evicted:
            self._evictions.labels(evicted.value)

    def ended(self, how: Preempted) -> None:
        """Note that a preemption has ended."""
        self._ended.labels(how.value).inc()

    def evicted(self, how: Evicted) -> None:
        """Note that an eviction was answered."""
        self._evictions.labels(how.value).inc()
