"""Gauges from sums by label, and how the number of their series is kept within bounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from extender.metrics.capacity import Key

OTHERS = "(others)"
"""What is not told by itself; no namespace, tenant, model or profile can be named so."""


def gauge(name: str, text: str, labels: Key, values: Mapping[Key, float]) -> Metric:
    """Return a gauge with a series for each of the *values*."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family


def single(name: str, text: str, value: float | None) -> Metric:
    """Return a gauge without labels; None: there is nothing to tell."""
    return gauge(name, text, (), {} if value is None else {(): value})


def total(parts: Iterable[Counter[Key]]) -> Counter[Key]:
    """Return the sum."""
    found: Counter[Key] = Counter()
    for part in parts:
        found.update(part)
    return found


def largest(values: Mapping[Key, int], most: int) -> frozenset[Key]:
    """Return the *most* keys with the largest values."""
    return frozenset(sorted(values, key=lambda key: (-values[key], key))[:most])


def only(values: Mapping[Key, int], at: int, told: Collection[str]) -> Counter[Key]:
    """Return *values* with one label's values other than those *told* added up as the others'."""
    found: Counter[Key] = Counter()
    for key, value in values.items():
        here = key if key[at] in told else (*key[:at], OTHERS, *key[at + 1 :])
        found[here] += value
    return found
